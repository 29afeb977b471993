"""The pairing protocol, step by step: from two checkpoints' answers to scored sequences."""

from __future__ import annotations

import pytest
from helpers.synthetic_comparisons import answers_of
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Sampling
from rlcircuits.common.choices import SCORE_ON, ScoreOn
from rlcircuits.common.defaults import MIN_QUESTIONS
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.funnel import STAGES, show_funnel
from rlcircuits.comparison.pairing import pair


def test_a_stage_that_sampled_nothing_is_not_shown() -> None:
    assert show_funnel({"asked": 9, "right by both": 7, "sampled": 5}) == "asked 9 → right by both 7 → sampled 5"
    assert show_funnel({"asked": 9, "right by both": 7, "sampled": 7}) == "asked 9 → right by both 7"
    assert show_funnel({"asked": 9}) == "asked 9"


def test_every_stage_drops_what_it_should() -> None:
    # 40 questions; each of the first five fails one stage of its own.
    right_before, right_after = [True] * 40, [True] * 40
    prompts_after, lengths_before, lengths_after = [6] * 40, [20] * 40, [20] * 40
    lengths_after[0] = 0  # not answered
    right_before[1] = False
    prompts_after[2] = 7
    lengths_before[3] = lengths_after[3] = 35  # outside the window
    lengths_before[4], lengths_after[4] = 12, 28  # not balanced: 16 > 0.5 · 20
    before = answers_of(right_before, lengths_before)
    after = answers_of(right_after, lengths_after, prompts_after)
    result = pair(before, after, k=30, alpha=0.3)

    assert tuple(result.funnel) == STAGES
    assert list(result.funnel.values()) == [40, 39, 38, 37, 36, 35, 30]
    assert tuple(result.dropped_ids) == STAGES[1:]
    assert [len(ids) for ids in result.dropped_ids.values()] == [1, 1, 1, 1, 1, 5]
    assert [ids for stage, ids in result.dropped_ids.items() if stage != "sampled"] == [(f"q{i}",) for i in range(5)]
    assert {*result.question_ids, *result.dropped_ids["sampled"]} == {f"q{i}" for i in range(5, 40)}
    assert not {"q0", "q1", "q2", "q3", "q4"} & set(result.question_ids)
    kept = 37
    assert result.ref == pytest.approx(min((20 * 35 + 35 + 12) / kept, (20 * 35 + 35 + 28) / kept))
    assert result.t_cut == 6
    assert result.note is None
    assert len(result.before) == len(result.after) == len(result.question_ids) == 30
    for sequence in (*result.before, *result.after):
        assert sequence.prompt_ids == tuple(range(6))
        assert sequence.answer_ids == tuple(range(100, 106))


def test_reference_is_the_shorter_models_mean() -> None:
    result = pair(answers_of([True] * 30, 10), answers_of([True] * 30, 14), alpha=0.5)
    assert (result.ref, result.t_cut) == (10, 5)


def test_at_least_one_token_is_scored() -> None:
    assert pair(answers_of([True] * 30, 4), answers_of([True] * 30, 4), alpha=0.03).t_cut == 1


def test_an_answer_shorter_than_the_cut_is_scored_whole() -> None:
    lengths = [10] * 40
    lengths[7] = 6
    result = pair(answers_of([True] * 40, lengths), answers_of([True] * 40, lengths), alpha=0.9)
    assert result.t_cut == 8
    assert [len(s.answer_ids) for s in result.before] == [6 if q == "q7" else 8 for q in result.question_ids]


@given(st.integers(MIN_QUESTIONS, 80), st.integers(MIN_QUESTIONS, 80), st.integers(0, 5))
def test_the_sample_is_fixed_by_its_seed(questions: int, k: int, seed: int) -> None:
    answers = answers_of([True] * questions)
    first, again = (pair(answers, answers, k=k, seed=seed) for _ in range(2))
    assert first == again
    assert len(first.question_ids) == min(k, questions)
    places = [int(question[1:]) for question in first.question_ids]
    assert places == sorted(set(places))
    assert (first.note is None) == (questions >= k)


def test_another_seed_samples_others() -> None:
    answers = answers_of([True] * 200)
    assert pair(answers, answers, k=50).question_ids != pair(answers, answers, k=50, seed=1).question_ids


def test_fewer_than_k_are_all_used_and_that_is_said() -> None:
    result = pair(answers_of([True] * 25), answers_of([True] * 25), k=100)
    assert len(result.question_ids) == 25
    assert result.note == "100 questions were wanted and 25 were left, so all are compared"


def test_too_few_left_shows_the_funnel() -> None:
    right = [True] * 19 + [False] * 30
    with pytest.raises(RLCircuitsError) as error:
        pair(answers_of(right), answers_of([True] * 49))
    assert str(error.value) == (
        "19 questions are left to compare and at least 20 are needed: asked 49 → answered by both 49 → "
        "right by both 19 → same prompt length 19 → length near the mean 19 → lengths balanced 19"
    )


def test_the_least_number_of_questions_is_an_option() -> None:
    few = answers_of([True] * 7)
    assert len(pair(few, few, k=7, min_questions=5).question_ids) == 7
    with pytest.raises(RLCircuitsError, match="7 questions are left to compare and at least 8 are needed"):
        pair(few, few, k=9, min_questions=8)


LENGTHS = [9 + place % 3 for place in range(40)]
BEFORE, AFTER = answers_of([True] * 40, LENGTHS), answers_of([True] * 40, 10, first_token=500)
GOLD = {f"q{place}": [900 + place, 901 + place] for place in range(40)}


@given(st.sampled_from(SCORE_ON), st.sampled_from([0.1, 0.5, 1.0]))
def test_whose_answers_are_scored_changes_nothing_else(score_on: ScoreOn, alpha: float) -> None:
    own = pair(BEFORE, AFTER, k=30, alpha=alpha)
    result = pair(BEFORE, AFTER, k=30, alpha=alpha, score_on=score_on, gold=GOLD)
    assert result.score_on == score_on
    for name in ("question_ids", "t_cut", "ref", "funnel", "dropped_ids"):
        assert getattr(result, name) == getattr(own, name)
    answers = {
        "before": [s.answer_ids for s in own.before],
        "after": [s.answer_ids for s in own.after],
        "gold": [tuple(GOLD[question][: own.t_cut]) for question in own.question_ids],
    }
    expected = ("before", "after") if score_on == "own" else (score_on, score_on)
    for sequences, originals, whose in zip(
        (result.before, result.after), (own.before, own.after), expected, strict=True
    ):
        assert [s.prompt_ids for s in sequences] == [s.prompt_ids for s in originals]
        assert [s.answer_ids for s in sequences] == answers[whose]


def test_gold_answers_must_be_there() -> None:
    for gold in (None, {}, {**GOLD, "q3": []}):
        with pytest.raises(RLCircuitsError, match=r"question 'q\d+' has no gold answer to score"):
            pair(BEFORE, AFTER, k=40, score_on="gold", gold=gold)


def test_a_control_is_held_to_the_pairs_steps() -> None:
    paired = pair(BEFORE, AFTER, k=40, alpha=0.5)
    right = [place != 3 for place in range(40)]
    lengths = list(LENGTHS)
    lengths[5] = 24  # outside the window of the pair's ref
    lengths[7] = 4  # not balanced with before's
    lengths[9] = 0
    chosen = pair_control(paired, BEFORE, answers_of(right, lengths, first_token=700))
    left_out = {3, 5, 7, 9}
    assert [paired.question_ids[place] for place in chosen.places] == [f"q{i}" for i in range(40) if i not in left_out]
    for place, sequence in zip(chosen.places, chosen.sequences, strict=True):
        assert sequence.prompt_ids == paired.before[place].prompt_ids
        assert sequence.answer_ids == tuple(range(700, 700 + paired.t_cut))
    assert pair_control(paired, BEFORE, answers_of([False] * 40)).places == ()
    # Questions that the pair does not compare are none of the control's.
    few = pair(BEFORE, AFTER, k=25)
    assert len(pair_control(few, BEFORE, BEFORE).places) == 25


@pytest.mark.parametrize("score_on", ["before", "after", "gold"])
def test_a_control_is_scored_on_the_same_tokens_where_both_models_are(score_on: ScoreOn) -> None:
    paired = pair(BEFORE, AFTER, k=40, score_on=score_on, gold=GOLD)
    chosen = pair_control(paired, BEFORE, answers_of([place % 2 == 0 for place in range(40)], first_token=700))
    assert len(chosen.places) == 20
    assert chosen.sequences == tuple(paired.before[place] for place in chosen.places)


def test_nothing_right_is_an_error_too() -> None:
    with pytest.raises(RLCircuitsError, match="0 questions are left"):
        pair(answers_of([False] * 30), answers_of([True] * 30))


def test_questions_only_one_was_asked_are_dropped() -> None:
    result = pair(answers_of([True] * 40), answers_of([True] * 30))
    assert list(result.funnel.values())[:2] == [40, 30]
    assert show_funnel(result.funnel).startswith("asked 40 → answered by both 30 → right by both 30")


def twice(answers: Answers) -> Answers:
    return Answers(answers.model, answers.question_set, answers.split, answers.sampling, answers.items * 2)


@pytest.mark.parametrize(
    ("after", "options", "message"),
    [
        (answers_of([True] * 30, split="dev"), {}, r"arithmetic \(test\) and after arithmetic \(dev\)"),
        (answers_of([True] * 30, sampling=Sampling(temperature=0)), {}, "needs the same sampling"),
        (twice(answers_of([True] * 30)), {}, "the after answers hold question 'q0' twice"),
        (answers_of([True] * 30), {"alpha": 0}, "alpha is 0"),
        (answers_of([True] * 30), {"alpha": 1.5}, "alpha is 1.5"),
        (answers_of([True] * 30), {"k": 19}, "k is 19; a paired test needs at least 20"),
        (answers_of([True] * 30), {"balance": -0.1}, "balance is -0.1"),
        (answers_of([True] * 30), {"min_questions": 0}, "min_questions is 0"),
        (
            answers_of([True] * 30),
            {"score_on": "both"},
            "score_on is 'both'; it must be one of own, before, after, gold",
        ),
    ],
)
def test_what_does_not_fit_is_said(after: Answers, options: dict[str, float], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        pair(answers_of([True] * 30), after, **options)  # type: ignore[arg-type]
