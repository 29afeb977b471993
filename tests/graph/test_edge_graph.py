"""The graph: counts and the order of events."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.sublayers import Experts
from rlcircuits.graph.edge_graph import GRANULARITIES, build_graph

layers = st.integers(1, 40)
heads = st.integers(1, 8)


@given(n_layers=layers, n_heads=heads)
def test_sublayer_counts(n_layers: int, n_heads: int) -> None:
    graph = build_graph(n_layers, n_heads, "sublayer")
    assert len(graph.writers) == 1 + 2 * n_layers
    assert len(graph.readers) == 4 * n_layers + 1
    assert graph.n_edges == 4 * n_layers**2 + 3 * n_layers + 1
    parallel = build_graph(n_layers, n_heads, "sublayer", parallel=True)
    assert parallel.n_edges == graph.n_edges - n_layers


@given(n_layers=layers, n_heads=heads)
def test_head_counts(n_layers: int, n_heads: int) -> None:
    graph = build_graph(n_layers, n_heads, "head")
    assert len(graph.writers) == 1 + n_layers * (n_heads + 1)
    assert len(graph.readers) == 3 * n_layers * n_heads + n_layers + 1


@given(n_layers=layers, n_heads=heads, group=st.integers(1, 4))
def test_shared_key_value_heads_are_counted_once(n_layers: int, n_heads: int, group: int) -> None:
    graph = build_graph(n_layers, n_heads * group, "kv-head", n_kv_heads=n_heads)
    assert graph.writers == build_graph(n_layers, n_heads * group, "head").writers
    assert len(graph.readers) == n_layers * (n_heads * group + 2 * n_heads + 1) + 1
    assert graph.granularity == "kv-head"


def test_thirty_two_layers_have_the_published_number_of_edges() -> None:
    assert build_graph(32, 32, "sublayer").n_edges == 4193


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("parallel", [False, True])
def test_an_edge_needs_a_writer_before_its_reader(granularity: str, parallel: bool) -> None:
    experts = Experts(3, shared=True) if granularity == "expert" else None
    graph = build_graph(3, 2, granularity, parallel=parallel, experts=experts)
    for w, writer in enumerate(graph.writers):
        for r, reader in enumerate(graph.readers):
            assert bool(graph.mask[w, r]) == precedes(writer, reader, parallel), (writer, reader)


def precedes(writer: str, reader: str, parallel: bool) -> bool:
    if writer == "embed" or reader == "logits":
        return True
    kind, layer = writer.split(".")[:2]
    reader_kind, reader_layer = reader.split(".")[:2]
    if layer == reader_layer:
        return (kind, reader_kind) == ("attn", "mlp") and not parallel
    return int(layer) < int(reader_layer)


def test_an_unknown_granularity_is_an_error() -> None:
    with pytest.raises(RLCircuitsError, match="granularity is 'neuron'; it must be one of sublayer, head, kv-head"):
        build_graph(1, 1, "neuron")


def test_the_edge_counts_are_those_of_eap_ig() -> None:
    """GPT-2 small and GPT-2 XL, as EAP-IG counts the edges of its graphs."""
    assert build_graph(12, 12, "head").n_edges == 32_491
    assert build_graph(48, 25, "head").n_edges == 2_235_025


@given(n_layers=st.integers(1, 5), parallel=st.booleans(), count=st.integers(1, 6), shared=st.booleans())
def test_experts_stand_where_their_mlp_does(n_layers: int, parallel: bool, count: int, shared: bool) -> None:
    whole = build_graph(n_layers, 2, "sublayer", parallel=parallel)
    graph = build_graph(n_layers, 2, "expert", parallel=parallel, experts=Experts(count, shared))
    assert graph.granularity == "expert"
    assert not graph.has_heads
    assert graph.readers == whole.readers
    assert len(graph.writers) == 1 + n_layers * (1 + count + shared)
    for writer, edges in zip(graph.writers, graph.mask, strict=True):
        sublayer = ".".join(writer.split(".")[:2])
        assert torch.equal(edges, whole.mask[whole.writers.index(sublayer)])


def test_a_graph_of_experts_needs_experts() -> None:
    with pytest.raises(RLCircuitsError, match="'expert', which only a mixture of experts has"):
        build_graph(1, 1, "expert")
