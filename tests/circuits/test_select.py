"""Choosing edges, pruning, and the file of a circuit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits import EdgeScores, RLCircuitsError
from rlcircuits.circuits import Circuit, find_circuit
from rlcircuits.circuits.nodes import prune, readers_of_writers
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph

graphs = st.builds(
    lambda layers, heads, granularity, parallel: build_graph(
        layers, heads, granularity, parallel=parallel, n_kv_heads=heads // 2
    ),
    st.integers(1, 3),
    st.just(4),
    st.sampled_from(("sublayer", "head", "kv-head")),
    st.booleans(),
)
seeds = st.integers(0, 2**32)


def scores_of(graph: EdgeGraph, seed: int, count: int = 3) -> EdgeScores:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((count, *graph.mask.shape), generator=generator) * graph.mask
    return EdgeScores(values, torch.ones(count), graph, "reference")


def paths(graph: EdgeGraph, mask: Tensor) -> Tensor:
    """The edges on a path from the embedding to the logits, by following every path: slow and plain."""
    belongs = readers_of_writers(graph)

    def forward(writer: int, seen: set[int]) -> bool:
        return any(
            graph.readers[v] == "logits" or any(forward(int(w), seen) for w in belongs[:, v].nonzero())
            for v in mask[writer].nonzero().flatten().tolist()
        )

    def backward(writer: int) -> bool:
        if graph.writers[writer] == "embed":
            return True
        inputs = (mask & belongs[writer]).nonzero().tolist()
        return any(backward(u) for u, _ in inputs)

    on_path = torch.zeros_like(mask)
    for u, v in mask.nonzero().tolist():
        ahead = graph.readers[v] == "logits" or any(forward(int(w), set()) for w in belongs[:, v].nonzero())
        on_path[u, v] = ahead and backward(u)
    return on_path


@given(graph=graphs, seed=seeds, share=st.sampled_from((0.05, 0.1, 0.3)))
def test_pruning_leaves_the_edges_on_a_path_from_the_embedding_to_the_logits(
    graph: EdgeGraph, seed: int, share: float
) -> None:
    mask = (torch.rand(graph.mask.shape, generator=torch.Generator().manual_seed(seed)) < share) & graph.mask
    pruned = prune(graph, mask)
    assert torch.equal(prune(graph, pruned), pruned)
    if graph.granularity == "sublayer":
        assert torch.equal(pruned, paths(graph, mask))
    assert not bool((pruned & ~mask).any())


@given(graph=graphs, seed=seeds, data=st.data())
def test_top_edges_have_the_highest_scores(graph: EdgeGraph, seed: int, data: Any) -> None:
    scores = scores_of(graph, seed)
    size = data.draw(st.integers(0, graph.n_edges))
    ranking = data.draw(st.sampled_from(("absolute", "signed")))
    circuit = find_circuit(scores, size, ranking=ranking, pruned=False)
    values = scores.values.double().mean(0)
    values = values.abs() if ranking == "absolute" else values
    assert circuit.n_edges == size
    if 0 < size < graph.n_edges:
        assert values[circuit.mask].min() >= values[graph.mask & ~circuit.mask].max()
        least = float(values[circuit.mask].min())
        assert torch.equal(find_circuit(scores, threshold=least, ranking=ranking, pruned=False).mask, circuit.mask)


@given(graph=graphs, seed=seeds, data=st.data())
def test_a_greedy_circuit_leads_to_the_logits(graph: EdgeGraph, seed: int, data: Any) -> None:
    size = data.draw(st.integers(1, graph.n_edges))
    circuit = find_circuit(scores_of(graph, seed), size, method="greedy", pruned=False)
    assert circuit.n_edges <= size
    # Every edge's reader is the logits or an input of a node that an edge leaves.
    leads_on = (readers_of_writers(graph) & circuit.mask.any(1)[:, None]).any(0)
    leads_on[graph.readers.index("logits")] = True
    assert bool(leads_on[circuit.mask.any(0)].all())
    if size == graph.n_edges:
        assert torch.equal(circuit.mask, graph.mask)


def test_greedy_takes_the_best_edge_into_what_is_in() -> None:
    graph = build_graph(2, 1, "sublayer")
    values = torch.zeros(1, *graph.mask.shape)

    def put(writer: str, reader: str, score: float) -> None:
        values[0, graph.writers.index(writer), graph.readers.index(reader)] = score

    put("embed", "attn.0.q", 9.0)  # the best of all, into a node that leads nowhere yet
    put("mlp.1", "logits", 2.0)
    put("attn.0", "mlp.1", 1.0)
    circuit = find_circuit(EdgeScores(values, torch.ones(1), graph, "reference"), 3, method="greedy")
    assert circuit.edges == (("embed", "attn.0.q"), ("attn.0", "mlp.1"), ("mlp.1", "logits"))
    assert find_circuit(EdgeScores(values, torch.ones(1), graph, "reference"), 1).n_edges == 0


def test_one_sequence_has_a_circuit_of_its_own() -> None:
    scores = scores_of(build_graph(2, 1, "sublayer"), 1)
    alone = EdgeScores(scores.values[1:2], scores.loss[1:2], scores.graph, "reference")
    assert find_circuit(scores, 5, sequence=1).edges == find_circuit(alone, 5).edges


@given(graph=graphs, seed=seeds)
def test_a_stored_circuit_is_read_again(tmp_path_factory: pytest.TempPathFactory, graph: EdgeGraph, seed: int) -> None:
    circuit = find_circuit(scores_of(graph, seed), 0.3)
    path = tmp_path_factory.mktemp("circuit") / "circuit.json"
    circuit.save(path)
    again = Circuit.load(path)
    assert again.graph.same_as(graph)
    assert torch.equal(again.mask, circuit.mask)
    assert again.found_by == circuit.found_by


def test_a_circuit_becomes_a_table() -> None:
    circuit = find_circuit(scores_of(build_graph(2, 1, "sublayer"), 1), 5, pruned=False)
    table = circuit.to_pandas()
    assert len(table) == circuit.graph.n_edges
    assert tuple(table[table.in_circuit][["writer", "reader"]].itertuples(index=False, name=None)) == circuit.edges


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 1000}, "size is 1000; a number of edges from 0 to 23"),
        ({"size": 1.5}, "or a share from 0.0 to 1.0"),
        ({"size": None}, "needs either a size or a threshold"),
        ({"threshold": 0.1}, "needs either a size or a threshold"),
        ({"ranking": "best"}, "ranking is 'best'; it must be absolute or signed"),
        ({"method": "best"}, "method is 'best'; it must be top or greedy"),
        ({"size": None, "threshold": float("nan")}, "threshold is nan"),
        ({"sequence": 3}, "sequence is 3; the scores hold sequences 0 to 2"),
        ({"size": None, "threshold": 0.1, "method": "greedy"}, "'greedy' needs a size"),
    ],
)
def test_what_cannot_be_chosen_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        find_circuit(scores_of(build_graph(2, 1, "sublayer"), 1), **{"size": 5, **change})


def test_scores_that_are_not_finite_are_refused() -> None:
    scores = scores_of(build_graph(2, 1, "sublayer"), 1)
    values = scores.values.clone()
    values[0, scores.graph.writers.index("embed"), scores.graph.readers.index("logits")] = float("nan")
    with pytest.raises(RLCircuitsError, match="scores hold NaN"):
        find_circuit(EdgeScores(values, scores.loss, scores.graph, scores.backend), 5)


def test_a_share_of_any_type_is_a_share() -> None:
    scores = scores_of(build_graph(2, 1, "sublayer"), 1)
    found = find_circuit(scores, np.float32(0.5), pruned=False)  # type: ignore[arg-type]
    assert found.n_edges == scores.graph.n_edges // 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [["mlp.1", "attn.0.q"]]}, "mlp.1 → attn.0.q, which is no edge"),
        ({"edges": [["mlp.9", "logits"]]}, "mlp.9 → logits, which is not between the nodes named"),
        ({"writers": ["embed"]}, "writers and readers are not those of a sublayer graph"),
        ({"writers": ["embed", "mixer.999999999"]}, "writers and readers are not those of a sublayer graph"),
        ({"version": 2}, r"circuit\.json, key 'version': must be"),
        ({"more": 1}, "more"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "circuit.json"
    find_circuit(scores_of(build_graph(2, 1, "sublayer"), 1), 5).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RLCircuitsError, match=message) as found:
        Circuit.load(path)
    assert str(path) in str(found.value)
