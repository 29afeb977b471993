"""The sizes of a graph, counted without building it, are those of the graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.choices import GRANULARITIES
from rlcircuits.common.sublayers import SUBLAYERS, Experts, LayerReads, layer_reads
from rlcircuits.graph.edge_graph import build_layered_graph
from rlcircuits.graph.graph_sizes import graph_sizes

layers_of_any_kind = st.builds(
    lambda sublayers, parallel: layer_reads(tuple(each for each in SUBLAYERS if each in sublayers), parallel=parallel),
    st.sets(st.sampled_from(SUBLAYERS), min_size=1),
    parallel=st.booleans(),
)


@given(layers=st.lists(layers_of_any_kind, min_size=1, max_size=4), kv_heads=st.integers(1, 3), group=st.integers(1, 3))
def test_are_those_of_the_graph_that_is_built(layers: list[LayerReads], kv_heads: int, group: int) -> None:
    heads = kv_heads * group
    experts = [Experts(i + 1, shared=i == 1) if i % 2 else None for i in range(len(layers))]  # some are dense
    sizes = graph_sizes(layers, heads, n_kv_heads=kv_heads, experts=experts)
    assert len(sizes) == len(GRANULARITIES) - (len(layers) == 1)
    for found in sizes:
        graph = build_layered_graph(layers, heads, found.granularity, n_kv_heads=kv_heads, experts=experts)
        assert (found.writers, found.readers, found.edges) == (
            len(graph.writers),
            len(graph.readers),
            graph.n_edges,
        )
        assert found.nodes == len(graph.writers) + len(graph.readers)


def test_needs_no_memory_for_the_graphs_of_a_large_model() -> None:
    sublayer, head, kv_head = graph_sizes([(("attn",), ("mlp",))] * 126, 128, n_kv_heads=8)
    assert sublayer.edges == 4 * 126**2 + 3 * 126 + 1
    assert head.nodes > 60_000
    assert kv_head.edges < head.edges
