"""The change by span: its parts add up, and it finds what was put in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits import AnswerSpans, RLCircuitsError, SpanScores, activation_intensity, span_changes, strengthened_edges
from rlcircuits.comparison.span_changes import span_intensities
from rlcircuits.graph.edge_graph import build_graph
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.span_scores import span_rows

GRAPH = build_graph(2, 2, "sublayer")


def made(steps: list[int], seed: int, how: HowScored | None = None) -> SpanScores:
    """Scores at random, of answers with so many steps."""
    generator = torch.Generator().manual_seed(seed)
    rows = span_rows([AnswerSpans(3, (2,) * each) for each in steps])
    values = torch.randn(len(rows[0]), *GRAPH.mask.shape, generator=generator) * GRAPH.mask
    loss = torch.rand(len(steps), generator=generator)
    return SpanScores(values, *rows, loss, loss, GRAPH, "matmul", how or HowScored())


steps = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(steps=steps, seed=st.integers(0, 2**31))
def test_a_sequences_spans_add_up_to_its_intensity(steps: list[int], seed: int) -> None:
    scores = made(steps, seed)
    sums = np.bincount(scores.sequence.numpy(), span_intensities(scores), minlength=len(steps))
    np.testing.assert_allclose(sums, activation_intensity(scores.whole()), rtol=1e-5)


@given(count=st.integers(2, 5), n_steps=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_rows_add_up_and_the_interval_is_that_of_the_pairs(count: int, n_steps: int, seed: int) -> None:
    before, after = made([n_steps] * count, seed), made([n_steps] * count, seed + 1)
    found = span_changes(before, after)
    assert [row.name for row in found.rows] == ["prompt", *(f"step {i + 1}" for i in range(n_steps)), "whole"]
    for field in ("before", "after", "change"):
        *parts, whole = (getattr(row, field) for row in found.rows)
        assert math.isclose(sum(parts), whole, rel_tol=1e-9, abs_tol=1e-12)
    pairs = [activation_intensity(scores.whole()) for scores in (after, before)]
    low, high = stats.ttest_rel(*pairs).confidence_interval(0.95)
    assert math.isclose(found.rows[-1].low, low, rel_tol=1e-4, abs_tol=1e-7)
    assert math.isclose(found.rows[-1].high, high, rel_tol=1e-4, abs_tol=1e-7)
    assert found.edges == GRAPH.n_edges


def test_a_span_that_one_of_a_pair_lacks_is_left_out() -> None:
    found = span_changes(made([2, 1], 1), made([1, 3], 2))
    assert [row.sequences for row in found.rows] == [2, 2, 0, 0, 2]
    assert math.isnan(found.rows[2].change)
    assert "step 1" in str(found)


def test_what_was_put_in_is_found() -> None:
    """One edge is stronger at step 2, and all else is the same."""
    before = made([3] * 6, 5)
    values = before.values.clone()
    writer, reader = 1, int(GRAPH.readers.index("logits"))
    values[:, writer, reader] = 1
    before = SpanScores(values, before.sequence, before.span, before.positions, before.loss, before.loss, GRAPH,
                        "matmul", HowScored())  # fmt: skip
    grown = values.clone()
    grown[before.span == 2, writer, reader] += 3
    after = SpanScores(grown, before.sequence, before.span, before.positions, before.loss, before.loss, GRAPH,
                       "matmul", HowScored())  # fmt: skip
    edges = strengthened_edges(before, after)
    assert edges.nonzero().tolist() == [[writer, reader]]
    changes = {row.name: row.change for row in span_changes(before, after, edges).rows}
    assert changes == pytest.approx({"prompt": 0, "step 1": 0, "step 2": 3, "step 3": 0, "whole": 3})


def test_scores_that_are_no_pair() -> None:
    scores = made([2, 2], 1)
    with pytest.raises(RLCircuitsError, match="before has 2 sequences and after 1"):
        span_changes(scores, made([2], 1))
    with pytest.raises(RLCircuitsError, match="score both in one way"):
        span_changes(scores, made([2, 2], 1, HowScored(metric="logprob")))
    with pytest.raises(RLCircuitsError, match="at least one edge"):
        span_changes(scores, scores, ~GRAPH.mask)
    with pytest.raises(RLCircuitsError, match="top is 0"):
        strengthened_edges(scores, scores, 0)
