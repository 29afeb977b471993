"""Comparing two circuits: properties, and the nulls that it is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.core_inputs import fixed_sequences, tiny
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits import EdgeScores, RLCircuitsError, attribute
from rlcircuits.circuits import compare_circuits, cross_faithfulness, estimate_quality, faithfulness
from rlcircuits.circuits.circuit_comparison import overlap_at_size
from rlcircuits.circuits.overlap import circuits_with, count_shared, default_resamples
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.graph.sequences import AnswerSequence

GRAPH = build_graph(4, 1, "sublayer")
SIZES = (0.001, 0.05, 0.2, 0.5, 1.0)


def scores_of(values: torch.Tensor, graph: EdgeGraph = GRAPH) -> EdgeScores:
    return EdgeScores(values.float() * graph.mask, torch.ones(len(values)), graph, "reference")


def noisy(seed: int, around: torch.Tensor, spread: float, count: int = 30) -> EdgeScores:
    generator = torch.Generator().manual_seed(seed)
    return scores_of(around + spread * torch.randn(count, *GRAPH.mask.shape, generator=generator))


CENTRE = torch.randn(GRAPH.mask.shape, generator=torch.Generator().manual_seed(1))


def test_a_checkpoint_has_its_own_circuit() -> None:
    scores = noisy(2, CENTRE, 0.1)
    found = compare_circuits(scores, scores, noise=[noisy(3, CENTRE, 0.1)], sizes=SIZES, resamples=50)
    assert [overlap.size for overlap in found.overlaps] == list(SIZES[1:])  # a thousandth of 77 edges is none
    for overlap in found.overlaps:
        assert overlap.jaccard == 1
        assert overlap.interval == (1, 1)
        assert not overlap.is_below_noise
        assert overlap.rank_correlation == pytest.approx(1)
    assert all(edge.change == 0 and edge.p == 1 and edge.q == 1 for edge in found.edges)
    assert found.overlaps[-1].itself == 1


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_unrelated_circuits_overlap_as_chance_says(first: int, second: int) -> None:
    ours, theirs = (noisy(seed, torch.zeros_like(CENTRE), 1.0, count=3) for seed in (first, second))
    for overlap in compare_circuits(ours, theirs, sizes=SIZES, resamples=5).overlaps:
        count, edges = overlap.n_edges, GRAPH.n_edges
        shared = round(2 * count * overlap.jaccard / (1 + overlap.jaccard))
        # The p-value by its definition, summed term by term.
        terms = stats.hypergeom.pmf(np.arange(shared, count + 1), edges, count, count)
        assert overlap.p_chance == pytest.approx(float(terms.sum()), abs=1e-9)
        assert 0 <= overlap.expected <= 1


def test_one_changed_edge_is_found_and_no_other() -> None:
    moved = CENTRE.clone()
    row, column = GRAPH.writers.index("mlp.1"), GRAPH.readers.index("attn.3.v")
    moved[row, column] += 5
    found = compare_circuits(noisy(2, CENTRE, 0.2), noisy(3, moved, 0.2), sizes=SIZES, resamples=20)
    first = found.edges[0]
    assert (first.writer, first.reader) == ("mlp.1", "attn.3.v")
    assert first.q < 1e-3
    assert first.change == pytest.approx(5, abs=0.3)
    assert first.stability[1] == 1
    assert sum(edge.q < 0.001 for edge in found.edges) == 1
    kinds = ("q", "k", "v", "mlp", "logits")
    assert sum(found.parts[kind] for kind in kinds) == pytest.approx(1)
    layers = sum(share for part, share in found.parts.items() if part.startswith("layer"))
    assert layers + found.parts["logits"] == pytest.approx(1)
    assert max(kinds, key=lambda kind: found.parts[kind]) == "v"


def test_p_values_are_adjusted_as_benjamini_and_hochberg_have_it() -> None:
    found = compare_circuits(noisy(2, CENTRE, 0.2), noisy(3, CENTRE * 1.2, 0.2), sizes=SIZES, resamples=5)
    p = sorted(edge.p for edge in found.edges)
    q = sorted(edge.q for edge in found.edges)
    by_definition = [min(p[j] * len(p) / (j + 1) for j in range(i, len(p))) for i in range(len(p))]
    assert q == pytest.approx([min(1, each) for each in by_definition])


def test_rows_of_one_question_are_averaged() -> None:
    twice = noisy(2, CENTRE, 0.5), noisy(3, CENTRE, 0.5)
    repeated = [scores_of(each.values.repeat_interleave(2, 0)) for each in twice]
    questions = [i // 2 for i in range(60)]
    found = compare_circuits(*repeated, questions=questions, sizes=SIZES, resamples=20)
    wanted = compare_circuits(*twice, sizes=SIZES, resamples=20)
    assert found.questions == 30
    assert list(found.edges) == list(wanted.edges)
    assert found.overlaps == wanted.overlaps


def test_noise_that_changes_as_much_explains_the_change() -> None:
    far = torch.randn(CENTRE.shape, generator=torch.Generator().manual_seed(9))
    before = noisy(2, CENTRE, 0.01)
    near_noise = [noisy(5, CENTRE, 0.01), noisy(6, CENTRE, 0.01)]
    found = compare_circuits(before, noisy(3, far, 0.01), noise=near_noise, sizes=(0.2, 0.5), resamples=5)
    assert all(overlap.is_below_noise for overlap in found.overlaps)
    same = compare_circuits(before, noisy(3, far, 0.01), noise=[noisy(7, far, 0.01)], sizes=(0.2, 0.5), resamples=5)
    assert not any(overlap.is_below_noise for overlap in same.overlaps)
    assert compare_circuits(before, before, sizes=(0.2, 0.5), resamples=5).overlaps[0].is_below_noise is None


@given(st.lists(st.lists(st.integers(-3, 3), min_size=8, max_size=8), min_size=2, max_size=4), st.data())
def test_the_highest_are_chosen_and_of_equal_ones_the_first(rows: list[list[int]], data: Any) -> None:
    counts = sorted(data.draw(st.sets(st.integers(1, 8), min_size=1)))
    inside = circuits_with(np.array(rows, dtype=float), counts)
    circuits = []
    for row, levels in zip(rows, inside, strict=True):
        order = sorted(range(8), key=lambda i: (-row[i], i))
        circuits.append([set(order[:count]) for count in counts])
        assert [set(np.flatnonzero(levels >= len(counts) - i)) for i in range(len(counts))] == circuits[-1]
    shared = count_shared(inside[:1], inside[1:2], counts)[0]
    assert list(shared) == [len(a & b) for a, b in zip(circuits[0], circuits[1], strict=True)]


def test_the_overlap_of_one_size_is_that_among_several() -> None:
    before, after, noise = noisy(2, CENTRE, 0.5), noisy(3, CENTRE, 0.5), [noisy(4, CENTRE, 0.5)]
    questions = [i // 2 for i in range(30)]
    options: dict[str, Any] = {"noise": noise, "questions": questions, "noise_questions": [questions], "resamples": 20}
    alone = overlap_at_size(before, after, 0.2, **options)
    assert alone == compare_circuits(before, after, sizes=SIZES, **options).overlaps[1]
    assert overlap_at_size(before, after, 0.001, **options).n_edges == 1  # a circuit has an edge


def test_a_graph_of_many_edges_is_resampled_less_often_by_default() -> None:
    assert [default_resamples(edges) for edges in (0, 77, 32_491, 2_235_025, 10**9)] == [1000, 1000, 1000, 120, 100]
    assert compare_circuits(noisy(2, CENTRE, 0.2, 3), noisy(3, CENTRE, 0.2, 3), sizes=SIZES).resamples == 1000


def test_the_changed_edges_are_a_sequence_that_is_made_when_it_is_read() -> None:
    edges = compare_circuits(noisy(2, CENTRE, 0.2), noisy(3, CENTRE, 0.2), sizes=SIZES, resamples=5).edges
    assert len(edges) == len(list(edges)) == GRAPH.n_edges
    assert edges[:2] == (edges[0], edges[1])
    assert edges[-1] == edges[GRAPH.n_edges - 1]
    assert edges.n_changed(0.05) == sum(edge.q <= 0.05 for edge in edges)
    with pytest.raises(IndexError):
        edges[GRAPH.n_edges]


def test_a_circuit_of_the_other_checkpoint_is_judged_in_the_model() -> None:
    sequences, model = fixed_sequences(), tiny("llama")
    own = attribute(model, sequences)
    other = attribute(tiny("llama"), fixed_sequences(seed=12))
    found = cross_faithfulness(model, sequences, own, other, sizes=(0.1, 0.5, 1.0))
    for curve, scores in ((found.own, own), (found.other, other)):
        alone = faithfulness(model, sequences, scores, sizes=(0.1, 0.5, 1.0))
        np.testing.assert_allclose(curve.faithfulness, alone.faithfulness, rtol=1e-6)
    assert found.carried[-1] == 0


def test_the_estimate_is_compared_with_the_exact_effect() -> None:
    sequences, model = fixed_sequences(), tiny("llama")
    scores = attribute(model, sequences)
    found = estimate_quality(model, sequences, scores, count=10)
    assert (found.top.n_edges, found.random.n_edges, len(set(found.edges))) == (10, 10, 20)
    wanted = stats.spearmanr(found.estimates[:10], found.effects[:10]).statistic
    assert found.top.rank_correlation == pytest.approx(wanted)
    assert 0 <= found.random.sign_agreement <= 1
    # With fewer edges than asked for, all are taken once.
    assert len(set(estimate_quality(model, sequences, scores, count=100).edges)) == scores.graph.n_edges


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": fixed_sequences()[:1]}, "scores hold 3 sequences, and 1 were given"),
        ({"count": -1}, "count is -1"),
        ({"seed": 2**70}, "seed is "),
        ({"checkpoint": tiny("gpt2")}, "the scores' graph is not that of"),
    ],
)
def test_scores_that_do_not_fit_the_model_or_its_sequences_are_refused(change: dict[str, Any], message: str) -> None:
    sequences, model = fixed_sequences(), tiny("llama")
    scores = attribute(model, sequences)
    with pytest.raises(RLCircuitsError, match=message):
        estimate_quality(**{"checkpoint": model, "sequences": sequences, "scores": scores, **change})


def test_a_comparison_becomes_a_table() -> None:
    table = compare_circuits(noisy(2, CENTRE, 0.2), noisy(3, CENTRE, 0.2), sizes=SIZES, resamples=5).to_pandas()
    assert len(table) == GRAPH.n_edges
    assert list(table.change.abs()) == sorted(table.change.abs(), reverse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": noisy(3, CENTRE, 0.2, count=5)}, "before has 30 scored sequences and after 5"),
        ({"questions": [1, 2]}, "questions has 2 entries for 30 rows"),
        ({"resamples": 0}, "resamples is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"ranking": "best"}, "ranking is 'best'"),
        ({"noise": [attribute(tiny("gpt2"), [AnswerSequence((5,), (6,))])]}, "different graphs"),
    ],
)
def test_scores_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        compare_circuits(**{"before": noisy(2, CENTRE, 0.2), "after": noisy(3, CENTRE, 0.2), **change})


@given(st.lists(st.integers(0, 5), min_size=30, max_size=30))
def test_noise_that_is_before_itself_has_its_circuit(questions: list[int]) -> None:
    """However many rows a question has: each question has one weight, in the noise draws too."""
    before, after = noisy(2, CENTRE, 1.0), noisy(3, CENTRE, 1.0)
    found = compare_circuits(
        before, after, noise=[before], questions=questions, noise_questions=[questions], sizes=SIZES, resamples=2
    )
    assert all(overlap.noise == (1.0,) for overlap in found.overlaps)


def test_noise_questions_must_fit() -> None:
    before = noisy(2, CENTRE, 1.0)
    with pytest.raises(RLCircuitsError, match="one entry for each row of each noise draw"):
        compare_circuits(before, before, noise=[before], questions=range(30), noise_questions=[range(29)])


def test_scores_of_two_graphs_are_not_compared_in_one_model() -> None:
    checkpoint, sequences = tiny("llama"), fixed_sequences(2)
    own, heads = (attribute(checkpoint, sequences, granularity) for granularity in ("sublayer", "head"))
    with pytest.raises(RLCircuitsError, match="scores of different graphs"):
        cross_faithfulness(checkpoint, sequences, own, heads)


def test_estimates_are_of_the_sequences_that_were_scored() -> None:
    checkpoint, sequences = tiny("llama"), fixed_sequences(2)
    with pytest.raises(RLCircuitsError, match="scores hold 2 sequences, and 1 were given"):
        estimate_quality(checkpoint, sequences[:1], attribute(checkpoint, sequences))
