"""Several answers to each question: which are compared, and the question stays the unit of every test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers.synthetic_comparisons import answers_of, made_up_comparison, random_scores, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.effects import compare_accuracy
from rlcircuits.comparison.from_scores import Control, compare
from rlcircuits.comparison.pairing import SCORE_ON, Pairing, ScoreOn, pair
from rlcircuits.comparison.storage import to_json
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.report.terminal import detail, summary_table

QUESTIONS = 40
GOLD = {f"q{place}": [900 + place, 7, 8] for place in range(QUESTIONS)}


def drawn(seed: int, n: int = 1, sure: float = 0.85) -> Answers:
    """Return random answers of 8 to 12 tokens, each right with probability `sure`."""
    rng = random.Random(seed)
    items = []
    for place in range(QUESTIONS):
        for sample in range(n):
            ids = tuple(rng.randrange(1000) for _ in range(rng.randint(8, 12)))
            items.append(Answer(f"q{place}", (place, 1, 2), ids, "", rng.random() < sure, True, sample=sample))
    return Answers("made-up", "arithmetic", "test", Sampling(n=n), tuple(items))


def repeated(answers: Answers, n: int) -> Answers:
    """Return the same answers, each as all n samples of its question."""
    items = tuple(replace(item, sample=sample) for item in answers.items for sample in range(n))
    return replace(answers, sampling=replace(answers.sampling, n=n), items=items)


def permuted(answers: Answers, order: Sequence[int]) -> Answers:
    """Return the answers with sample ``order[j]`` as sample j."""
    items = [replace(item, sample=order.index(item.sample)) for item in answers.items]
    return replace(answers, items=tuple(sorted(items, key=lambda item: (int(item.question_id[1:]), item.sample))))


def changed(answers: Answers, question: str, sample: int, change: Callable[[Answer], Answer]) -> Answers:
    return replace(
        answers,
        items=tuple(
            change(item) if (item.question_id, item.sample) == (question, sample) else item for item in answers.items
        ),
    )


def scored(sequences: Sequence[AnswerSequence], model: int) -> EdgeScores:
    """Return scores that depend on the sequence and the model alone, like real ones."""
    rngs = [random.Random(f"{model} {s.prompt_ids} {s.answer_ids}") for s in sequences]
    edges = np.array([[rng.gauss(0, 1 + model) ** 3 for _ in range(23)] for rng in rngs])
    return scores_of(edges, loss=[rng.uniform(0.1, 1) for rng in rngs])


def measured(before: Answers, after: Answers, noised: Answers, score_on: ScoreOn = "own") -> Comparison:
    """Return the comparison of these answers, with made-up scores in place of a model's."""
    paired = pair(before, after, k=QUESTIONS, min_questions=5, score_on=score_on, gold=GOLD)
    chosen = pair_control(paired, before, noised)
    control = Control(0, noised, chosen, scored(chosen.sequences, 2))
    return compare(
        scored(paired.before, 0), scored(paired.after, 1), paired, before, after,
        name="made-up", algorithm="grpo", controls=[control],
    )  # fmt: skip


@given(st.integers(0, 10**6), st.integers(2, 5), st.sampled_from(SCORE_ON))
@settings(max_examples=8)
def test_answers_given_again_change_no_number(seed: int, n: int, score_on: ScoreOn) -> None:
    answers = [drawn(3 * seed + side) for side in range(3)]
    once = measured(*answers, score_on=score_on)
    often = measured(*(repeated(each, n) for each in answers), score_on=score_on)
    assert (once.n, often.n) == (1, n)
    # To the last digit: effects, intervals, p, groups, controls, accuracy, funnel and verdict.
    assert to_json(replace(often, sampling=once.sampling)) == to_json(once)


@given(st.integers(0, 10**6), st.permutations(range(3)), st.sampled_from(SCORE_ON))
@settings(max_examples=8)
def test_the_order_of_the_samples_does_not_matter(seed: int, order: list[int], score_on: ScoreOn) -> None:
    answers = [drawn(3 * seed + side, n=3, sure=0.6) for side in range(3)]
    first = measured(*answers, score_on=score_on)
    assert to_json(measured(*(permuted(each, order) for each in answers), score_on=score_on)) == to_json(first)


@given(st.integers(0, 10**6), st.data())
@settings(max_examples=5)
def test_one_questions_answers_leave_the_others_alone(seed: int, data: st.DataObject) -> None:
    # Of one length, so that the cut is the same whichever are left.
    before, after, noised = (
        replace(each, items=tuple(replace(item, answer_ids=item.answer_ids[:8]) for item in each.items))
        for each in (drawn(3 * seed + side, n=2) for side in range(3))
    )
    first = measured(before, after, noised)
    question = data.draw(st.sampled_from(first.question_ids))
    other = changed(after, question, 1, lambda item: replace(item, answer_ids=item.answer_ids[::-1]))
    without = changed(after, question, 1, lambda item: replace(item, answer_ids=()))
    for result in (measured(before, other, noised), measured(before, without, noised)):
        for metric in first.effects:
            ours, theirs = values_of(first, metric), values_of(result, metric)
            ours.pop(question)
            theirs.pop(question, None)  # its only pair may be gone
            assert ours == theirs


def values_of(comparison: Comparison, metric: str) -> dict[str, tuple[float, float]]:
    """Return a metric before and after, by question."""
    effect = comparison.effects[metric]
    return dict(zip(comparison.question_ids, zip(effect.before_values, effect.after_values, strict=True), strict=True))


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=8)
def test_a_questions_value_is_the_mean_over_its_rows(seed: int, n: int) -> None:
    before, after, noised = (drawn(3 * seed + side, n=n, sure=0.7) for side in range(3))
    paired = pair(before, after, k=QUESTIONS, min_questions=5)
    result = measured(before, after, noised)
    losses = scored(paired.before, 0).loss.double().numpy()
    for place, value in enumerate(result.effects["loss"].before_values):
        rows = [row for row, of in enumerate(paired.places) if of == place]
        assert rows
        assert value == pytest.approx(losses[rows].mean())
        assert n > 1 or (rows == [place] and value == losses[place])
    # The control stands beside the rows it has: its difference is from before on the same answers.
    chosen = pair_control(paired, before, noised)
    values = scored(chosen.sequences, 2).loss.double().numpy()
    per_question = [
        np.mean([values[i] for i in range(len(values)) if chosen.places[i] == place])
        - np.mean([losses[row] for row, of in zip(chosen.rows, chosen.places, strict=True) if of == place])
        for place in sorted(set(chosen.places))
    ]
    (control,) = result.controls
    assert control.k == chosen.k == len(per_question)
    assert control.shifts["loss"].difference == pytest.approx(np.mean(per_question))


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | st.floats(-1e6, 1e6)), max_size=30))
def test_rows_that_are_undefined_are_left_out(rows: list[tuple[int, float | None]]) -> None:
    places = tuple(place for place, _ in rows)
    values = np.array([math.nan if value is None else value for _, value in rows])
    answers = answers_of([True] * 5)
    paired = replace(pair(answers, answers, k=5, min_questions=5), places=places)
    found = paired.by_question(values)
    assert found.shape == (5,)
    for place in range(5):
        defined = [value for of, value in rows if of == place and value is not None]
        assert math.isnan(found[place]) if not defined else found[place] == pytest.approx(np.mean(defined), abs=1e-6)
    # The same of some of the rows, given by themselves.
    some = list(range(0, len(rows), 2))
    part = replace(paired, places=tuple(places[row] for row in some))
    np.testing.assert_array_equal(paired.by_question(values[some], some), part.by_question(values[some]))


def test_one_answer_a_question_is_one_row_a_question() -> None:
    paired = pair(drawn(1), drawn(2), k=20, min_questions=5)
    assert paired.places == tuple(range(20))
    assert paired.samples == ((0,),) * 20
    values = np.array([math.nan, 0.1, -0.0, 1e-300, *np.random.default_rng(0).normal(size=16)])
    np.testing.assert_array_equal(paired.by_question(values), values)


def by_hand() -> tuple[Answers, Answers]:
    """Return two answers of 10 tokens to each of 30 questions, right except for the first five questions."""
    before, after = (repeated(answers_of([True] * 30, first_token=first), 2) for first in (100, 500))

    def wrong(item: Answer) -> Answer:
        return replace(item, correct=False)

    def of_length(length: int) -> Callable[[Answer], Answer]:
        return lambda item: replace(item, answer_ids=tuple(range(700, 700 + length)))

    before = changed(before, "q0", 0, wrong)  # its other pair is right
    before = changed(before, "q1", 0, wrong)  # each model is right once, but never on the same sample
    after = changed(after, "q1", 1, wrong)
    after = changed(after, "q2", 1, of_length(0))  # not answered
    before, after = (changed(each, "q3", 1, of_length(40)) for each in (before, after))  # too long
    after = changed(after, "q4", 0, of_length(17))  # 7 more than 10, of which the half of the mean is less
    return before, after


def test_a_question_is_left_as_long_as_one_of_its_pairs_is() -> None:
    before, after = by_hand()
    paired = pair(before, after, k=30, min_questions=5)
    assert list(paired.funnel.values()) == [30, 30, 29, 29, 29, 29, 29]
    assert paired.dropped_ids["right by both"] == ("q1",)
    rows = [(paired.question_ids[place], samples) for place, samples in zip(paired.places, paired.samples, strict=True)]
    assert rows[:4] == [("q0", (1,)), ("q2", (0,)), ("q3", (0,)), ("q4", (1,))]
    assert rows[4:] == [(f"q{i}", (sample,)) for i in range(5, 30) for sample in range(2)]
    # A question counts once in ref: q3 is 25 tokens long before and after, q4 is 13.5 after.
    assert paired.ref == pytest.approx((28 * 10 + 25) / 29)
    assert len(paired.before) == len(paired.after) == len(rows)

    missing = replace(after, items=tuple(item for item in after.items if item.question_id != "q7" or item.sample))
    only = pair(before, missing, k=30, min_questions=5)
    assert [s for place, s in zip(only.places, only.samples, strict=True) if only.question_ids[place] == "q7"] == [(1,)]


@pytest.mark.parametrize("score_on", SCORE_ON)
def test_whose_answers_are_scored(score_on: ScoreOn) -> None:
    before, after = drawn(1, n=2), drawn(2, n=2)
    paired = pair(before, after, k=30, min_questions=5, alpha=1, score_on=score_on, gold=GOLD)
    theirs = {"before": before, "after": after}
    ids = {side: {(i.question_id, i.sample): i.answer_ids for i in each.items} for side, each in theirs.items()}
    for row, (place, samples) in enumerate(zip(paired.places, paired.samples, strict=True)):
        question = paired.question_ids[place]
        for side, sequences in (("before", paired.before), ("after", paired.after)):
            whose = side if score_on == "own" else score_on
            wanted = tuple(GOLD[question]) if whose == "gold" else ids[whose][question, samples[0]]
            assert sequences[row].answer_ids == wanted[: paired.t_cut]
    own = pair(before, after, k=30, min_questions=5, alpha=1)
    if score_on == "gold":  # once a question, for all its pairs
        assert paired.places == tuple(range(len(paired.question_ids)))
        assert [(place, s) for place, samples in enumerate(paired.samples) for s in samples] == [
            (place, s) for place, (s,) in zip(own.places, own.samples, strict=True)
        ]
    else:
        assert (paired.places, paired.samples) == (own.places, own.samples)


@pytest.mark.parametrize("score_on", SCORE_ON)
def test_a_control_is_held_to_the_same_sample(score_on: ScoreOn) -> None:
    before, after = by_hand()
    paired = pair(before, after, k=30, min_questions=5, score_on=score_on, gold={f"q{i}": [i, 1] for i in range(30)})
    noised = repeated(answers_of([True] * 30, first_token=900), 2)
    noised = changed(noised, "q0", 1, lambda item: replace(item, correct=False))  # and before's sample 0 is wrong
    noised = changed(noised, "q5", 0, lambda item: replace(item, correct=False))
    noised = changed(noised, "q6", 1, lambda item: replace(item, answer_ids=()))
    chosen = pair_control(paired, before, noised)
    assert chosen.k == 28
    found = [
        (paired.question_ids[place], paired.samples[row]) for row, place in zip(chosen.rows, chosen.places, strict=True)
    ]
    if score_on == "gold":
        assert found[:5] == [("q2", (0,)), ("q3", (0,)), ("q4", (1,)), ("q5", (0, 1)), ("q6", (0, 1))]
    else:
        assert found[:5] == [("q2", (0,)), ("q3", (0,)), ("q4", (1,)), ("q5", (1,)), ("q6", (0,))]
    for row, sequence in zip(chosen.rows, chosen.sequences, strict=True):
        own = sequence.answer_ids == tuple(range(900, 900 + paired.t_cut))
        assert own if score_on == "own" else sequence == paired.before[row]


def test_answers_that_do_not_fit_their_sampling() -> None:
    twice = drawn(1, n=2)
    for answers, message in (
        (
            replace(twice, items=twice.items * 2),
            "the before answers hold sample 0 of question 'q0' twice",
        ),
        (
            replace(twice, sampling=Sampling()),
            "the before answers hold sample 1 of question 'q0'; their sampling has n = 1, so 0 to 0 is wanted",
        ),
    ):
        with pytest.raises(RLCircuitsError, match=message):
            pair(answers, answers)
    with pytest.raises(RLCircuitsError, match=r"seed=42, n=2\) and after with .*seed=42\); a pair needs"):
        pair(twice, drawn(1))


def test_scores_of_other_rows_are_refused() -> None:
    paired = pair(drawn(1, n=2), drawn(2, n=2), k=20, min_questions=5)
    scores = random_scores(20, 0)
    with pytest.raises(RLCircuitsError, match=f"20 sequences; the pairing has {len(paired.places)} pairs of answers"):
        compare(scores, scores, paired, drawn(1, n=2), drawn(2, n=2), name="p", algorithm="grpo")


def graded(flags: list[list[bool]]) -> Answers:
    """Return answers with these grades, one list for each question."""
    items = [
        Answer(f"q{place}", (1,), (2,), "", right, True, sample=sample)
        for place, each in enumerate(flags)
        for sample, right in enumerate(each)
    ]
    return Answers("made-up", "arithmetic", "test", Sampling(n=len(flags[0])), tuple(items))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_with_one_answer_the_sign_test_is_mcnemars(flags: list[tuple[bool, bool]]) -> None:
    found = compare_accuracy(*(graded([[each[side]] for each in flags]) for side in range(2)))
    lost, gained = (flags.count(each) for each in ((True, False), (False, True)))
    assert (found.lost, found.gained, found.asked) == (lost, gained, len(flags))
    p = sum(math.comb(lost + gained, i) for i in range(lost, lost + gained + 1)) / 2 ** (lost + gained)
    assert found.p_fall == pytest.approx(p)
    assert found.before == sum(before for before, _ in flags) / len(flags)


@given(st.integers(1, 5), st.data())
def test_accuracy_counts_a_question_once(n: int, data: st.DataObject) -> None:
    grades = st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=8, max_size=8)
    first, last = data.draw(grades), data.draw(grades)
    before, after = graded(first), graded(last)
    found = compare_accuracy(before, after)
    assert (found.before, found.after) == pytest.approx((before.accuracy, after.accuracy))
    rose = [sum(y) - sum(x) for x, y in zip(first, last, strict=True)]
    assert (found.lost, found.gained, found.asked) == (sum(r < 0 for r in rose), sum(r > 0 for r in rose), 8)
    test = stats.binomtest(found.lost, max(found.lost + found.gained, 1), alternative="greater")
    assert found.p_fall == pytest.approx(test.pvalue if found.lost + found.gained else 1)


def test_reports_say_how_many_answers_there_were() -> None:
    once = made_up_comparison()
    often = replace(once, sampling={**once.sampling, "n": 4})
    assert "n = " not in summary_table([once])
    assert "grpo, K = 40, n = 4" in summary_table([often])
    assert "answers by transformers\n" in detail(once)
    assert "answers by transformers, 4 to every question; a question's value is their mean\n" in detail(often)
    assert '"n": 4' in to_json(often)
    assert '"n"' not in to_json(once)


def test_the_pairing_is_the_only_one_to_know_which_row_is_whose() -> None:
    # Rows of one question far apart: nothing may rely on their standing together.
    answers = answers_of([True] * 20)
    paired: Pairing = replace(pair(answers, answers, k=20), places=(*range(20), *range(20)))
    values = np.arange(40.0)
    np.testing.assert_array_equal(paired.by_question(values), np.arange(20) + 10)
