"""The sizes of a graph, counted without building it, are those of the graph."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.graph.edge_graph import build_graph
from rlcircuits.graph.graph_sizes import graph_sizes


@given(layers=st.integers(1, 4), kv_heads=st.integers(1, 3), group=st.integers(1, 3), parallel=st.booleans())
def test_are_those_of_the_graph_that_is_built(layers: int, kv_heads: int, group: int, parallel: bool) -> None:
    heads = kv_heads * group
    for found in graph_sizes(layers, heads, parallel=parallel, n_kv_heads=kv_heads):
        graph = build_graph(layers, heads, found.granularity, parallel=parallel, n_kv_heads=kv_heads)
        assert (found.writers, found.readers, found.edges) == (
            len(graph.writers),
            len(graph.readers),
            graph.n_edges,
        )
        assert found.nodes == len(graph.writers) + len(graph.readers)


def test_needs_no_memory_for_the_graphs_of_a_large_model() -> None:
    sublayer, head, kv_head = graph_sizes(126, 128, n_kv_heads=8)
    assert sublayer.edges == 4 * 126**2 + 3 * 126 + 1
    assert head.nodes > 60_000
    assert kv_head.edges < head.edges
