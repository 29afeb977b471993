"""Exact effects: each is what removing the edge alone does, on every architecture."""

from __future__ import annotations

import pytest
import torch
from helpers import oracle
from helpers.core_inputs import NAMES, fixed_sequences
from helpers.tiny_models import build, granularities
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, Checkpoint, RLCircuitsError, attribute
from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.circuits import ablated, exact_effects

CASES = [(name, kind) for name in NAMES for kind in granularities(name)]
TOLERANCE = 1e-5


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_each_effect_is_that_of_the_edge_removed_alone(name: str, granularity: str) -> None:
    checkpoint = Checkpoint(build(name, seed=3, dtype=torch.float64))
    sequences, corrupted = fixed_sequences(), fixed_sequences(seed=12)
    graph = graph_of(checkpoint, granularity)
    places = graph.mask.nonzero().tolist()
    generator = torch.Generator().manual_seed(5)
    chosen = [places[i] for i in torch.randperm(len(places), generator=generator)[:12].tolist()] + [places[-1]]
    edges = [(graph.writers[u], graph.readers[v]) for u, v in chosen]
    for ablation, others in (("zero", None), ("resample", corrupted)):
        found = exact_effects(
            checkpoint, sequences, edges, ablation, granularity=granularity, corrupted=others, batch_tokens=60
        )
        for place, (u, v) in enumerate(chosen):
            mask = graph.mask.clone()
            mask[u, v] = False
            without = ablated(checkpoint, sequences, mask, ablation, corrupted=others).loss
            torch.testing.assert_close(found.values[:, place], without - found.loss, rtol=1e-3, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_the_effects_are_the_definitions(name: str) -> None:
    checkpoint, sequence = Checkpoint(build(name, seed=3, dtype=torch.float64)), fixed_sequences()[1]
    graph = graph_of(checkpoint, "sublayer")
    found = exact_effects(checkpoint, [sequence])
    whole = oracle.loss_only(checkpoint.model, sequence)
    assert found.loss.item() == pytest.approx(whole, rel=1e-5)
    for place in range(0, len(found.edges), 7):
        mask = graph.mask.clone()
        mask[tuple(found.places[:, place])] = False
        wanted = oracle.loss_only(checkpoint.model, sequence, mask) - whole
        assert found.values[0, place].item() == pytest.approx(wanted, rel=1e-3, abs=TOLERANCE * 10)


@settings(max_examples=10)
@given(count=st.integers(1, 4), tokens=st.integers(1, 400))
def test_batches_do_not_change_the_effects(count: int, tokens: int) -> None:
    checkpoint = Checkpoint(build("llama", seed=3))
    sequences = fixed_sequences(count)
    edges = [("embed", "mlp.1"), ("attn.0", "attn.2.v"), ("mlp.2", "logits"), ("embed", "attn.0.q")]
    together = exact_effects(checkpoint, sequences, edges, batch_tokens=tokens)
    for i, sequence in enumerate(sequences):
        alone = exact_effects(checkpoint, [sequence], edges)
        torch.testing.assert_close(together.values[i : i + 1], alone.values, rtol=1e-3, atol=1e-5)


def test_the_linear_last_step_is_estimated_well() -> None:
    """An edge that writes almost nothing has an effect that is its first-order estimate."""
    model = build("llama", seed=3, dtype=torch.float64)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight *= 1e-3
    sequences: list[AnswerSequence] = fixed_sequences()
    scores, exact = attribute(model, sequences), exact_effects(model, sequences)
    for place, (writer, _) in enumerate(exact.edges):
        if writer.startswith("mlp"):
            row, column = exact.places[:, place].tolist()
            torch.testing.assert_close(
                exact.values[:, place].float(), scores.values[:, row, column], rtol=0.05, atol=1e-6
            )


def test_what_is_no_edge_is_refused() -> None:
    with pytest.raises(RLCircuitsError, match=r"mlp\.1 → attn\.0\.q, which the sublayer graph does not have"):
        exact_effects(build("llama"), fixed_sequences(), [("mlp.1", "attn.0.q")])
    with pytest.raises(RLCircuitsError, match="a writer and a reader are wanted"):
        exact_effects(build("llama"), fixed_sequences(), [("embed", "mlp.0", "logits")])  # type: ignore[list-item]
