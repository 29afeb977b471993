"""Blocks that multiply the whole stream: each writer's output reaches a reader times the scalars between them."""

from __future__ import annotations

from helpers.core_inputs import fixed_sequences
from helpers.oracle import edge_scores
from helpers.tiny_models import build
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import attribute
from rlcircuits.capture.edge_scales import edge_scales
from rlcircuits.capture.model_graph import model_graph
from rlcircuits.capture.stream_check import verify_stream
from rlcircuits.models.parts import locate_parts

scalars = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-2, 2).filter(lambda each: abs(each) > 0.05))


@settings(max_examples=5)
@given(drawn=st.lists(scalars, min_size=3, max_size=3))
def test_any_scalars_and_zero_too(drawn: list[float]) -> None:
    model = build("gemma4", seed=3)
    for block, scalar in zip(model.model.layers, drawn, strict=True):
        block.layer_scalar.fill_(scalar)
    verify_stream(model, locate_parts(model))
    batch = fixed_sequences(1)
    for granularity in ("sublayer", "head"):
        found, wanted = attribute(model, batch, granularity).values, edge_scores(model, batch, granularity)[0]
        assert (found - wanted).norm() <= 1e-4 * wanted.norm()  # both are zero where nothing reaches the logits


def test_the_scalars_of_the_blocks_between_writer_and_reader() -> None:
    model = build("gemma4")
    for block, scalar in zip(model.model.layers, (2.0, 3.0, 5.0), strict=True):
        block.layer_scalar.fill_(scalar)
    parts = locate_parts(model)
    graph = model_graph(parts, "head")
    found = edge_scales(parts, graph)
    assert found is not None
    factor = {
        (writer, reader): float(found[u, v])
        for u, writer in enumerate(graph.writers)
        for v, reader in enumerate(graph.readers)
    }
    assert factor["embed", "attn.0.h0.q"] == factor["attn.0.h1", "mlp.0"] == 1
    assert factor["embed", "logits"] == factor["mlp.0", "logits"] == 30
    assert factor["attn.0.h2", "mlp.1"] == factor["mlp.0", "attn.1.h3.v"] == 2
    assert factor["attn.1.h0", "logits"] == 15
    assert (found[~graph.mask] == 1).all()


def test_no_scalars_where_the_family_has_none() -> None:
    parts = locate_parts(build("llama"))
    assert edge_scales(parts, model_graph(parts, "sublayer")) is None
