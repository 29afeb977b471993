"""Edge scores and circuits as tables of pandas, which is optional."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import EdgeScores, RLCircuitsError
from rlcircuits.circuits import Circuit, compare_circuits, find_circuit
from rlcircuits.graph.edge_graph import build_graph

GRAPH = build_graph(2, 2, "head")


def scores_of(sequences: int, seed: int = 0) -> EdgeScores:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sequences, *GRAPH.mask.shape, generator=generator) * GRAPH.mask
    return EdgeScores(values, torch.ones(sequences), GRAPH, "reference")


@given(st.integers(0, 4), st.integers(0, 100))
def test_a_row_for_each_edge_has_its_mean_score(sequences: int, seed: int) -> None:
    scores = scores_of(sequences, seed)
    table = scores.to_pandas()
    assert list(table) == ["writer", "reader", "score"]
    assert len(table) == GRAPH.n_edges
    for row in table.iloc[:: GRAPH.n_edges // 5].itertuples():
        place = GRAPH.writers.index(row.writer), GRAPH.readers.index(row.reader)
        assert GRAPH.mask[place]
        wanted = float(scores.values[(slice(None), *place)].double().mean())
        np.testing.assert_equal(row.score, wanted)  # NaN without a sequence


def test_a_row_for_each_sequence_and_edge() -> None:
    scores = scores_of(3)
    table = scores.to_pandas(by_sequence=True)
    assert list(table) == ["sequence", "writer", "reader", "score"]
    assert len(table) == 3 * GRAPH.n_edges
    wide = table.pivot(index="sequence", columns=["writer", "reader"], values="score")
    assert wide.loc[2, ("mlp.0", "logits")] == float(
        scores.values[2, GRAPH.writers.index("mlp.0"), GRAPH.readers.index("logits")]
    )
    means = table.groupby(["writer", "reader"])["score"].mean()
    assert means["embed", "mlp.1"] == pytest.approx(
        scores.to_pandas().set_index(["writer", "reader"]).score["embed", "mlp.1"]
    )


def test_the_edges_of_a_circuit_are_marked() -> None:
    circuit = find_circuit(scores_of(2), 20, pruned=False)
    table = circuit.to_pandas()
    inside = table[table.in_circuit]
    assert tuple(zip(inside.writer, inside.reader, strict=True)) == circuit.edges
    assert table.in_circuit.dtype == bool


@pytest.mark.parametrize(
    "table",
    [
        lambda: scores_of(2).to_pandas(),
        lambda: find_circuit(scores_of(2), 20).to_pandas(),
        lambda: Circuit(GRAPH, GRAPH.mask).to_pandas(),
        lambda: compare_circuits(scores_of(2), scores_of(2), resamples=2).to_pandas(),
    ],
)
def test_without_pandas_the_error_names_the_extra(table: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as Python marks a module that cannot be imported
    with pytest.raises(RLCircuitsError, match=r"needs pandas, .*: pip install 'rlcircuits\[tables\]'"):
        table()
