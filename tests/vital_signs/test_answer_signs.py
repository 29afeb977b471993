"""Lengths, steps, hard questions and formats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.vital_signs.formats import by_patterns, format_signs, predicted_shares, skeleton
from rlcircuits.vital_signs.from_answers import answer_signs
from rlcircuits.vital_signs.lengths import length_gap_sign, right_length_sign, unfinished_sign
from rlcircuits.vital_signs.steps import all_steps_sign, hard_solved_sign, read_steps, step_accuracy_sign
from tests.helpers.answer_makers import make_answers

QUESTIONS = [f"q{index}" for index in range(40)]


def with_lengths(wrong: int, right: int, spread: int = 3) -> tuple[dict, dict]:
    grades = {question: [False, True] for question in QUESTIONS}
    lengths = {question: [wrong + index % spread, right + index % spread] for index, question in enumerate(QUESTIONS)}
    return grades, lengths


@given(st.integers(0, 50))
def test_length_gap_ignores_a_common_length(extra: int) -> None:
    """Adding a constant to all lengths of after changes no gap."""
    grades, lengths = with_lengths(30, 10)
    _, longer = with_lengths(30 + extra, 10 + extra)
    sign = length_gap_sign(make_answers(grades, lengths=lengths), make_answers(grades, lengths=longer))
    assert sign.change == pytest.approx(0)
    assert sign.outcome == "no alarm"


def test_wrong_answers_that_grow_are_trouble() -> None:
    grades, lengths = with_lengths(30, 10)
    _, longer = with_lengths(60, 10)
    sign = length_gap_sign(make_answers(grades, lengths=lengths), make_answers(grades, lengths=longer))
    assert sign.change == pytest.approx(30)
    assert sign.outcome == "trouble"


def test_constant_lengths_have_no_room() -> None:
    grades, lengths = with_lengths(20, 20, 1)
    answers = make_answers(grades, lengths=lengths)
    assert length_gap_sign(answers, answers).outcome == "no room"
    assert right_length_sign(answers, answers).change == 0


def test_cut_off_answers_are_trouble() -> None:
    grades = {question: [True] for question in QUESTIONS}
    assert unfinished_sign(make_answers(grades), make_answers(grades, finished=False)).outcome == "trouble"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("41+30=71;71+12=83>83", [True, True]),
        ("41+30=72;72+12=84", [False, True]),
        ("First 3 × 4 = 12, then 12 - 5 = 7.", [True, True]),
        ("2 + 3 * 4 = 14", [True]),
        ("10 / 4 = 2.5 and 10 / 3 = 3.33", [True, True]),
        ("1,000 + 1 = 1,001", [True]),
        ("1 / 0 = 5", [False]),
        ("x + 1 = 2", []),
        ("3 + 4 = 5 + 2", []),
        ("no equation, 7", []),
        ("5 - 7 = -2", [True]),
    ],
)
def test_steps_are_read(text: str, right: list[bool]) -> None:
    assert read_steps(text) == right


@given(st.lists(st.integers(0, 999), min_size=2, max_size=5), st.integers(-3, 3))
def test_sums_are_right_where_their_total_is(numbers: list[int], off: int) -> None:
    assert read_steps(f"{'+'.join(map(str, numbers))}={sum(numbers) + off}") == [off == 0]


def test_wrong_steps_are_trouble() -> None:
    grades = {question: [True] for question in QUESTIONS}
    right = make_answers(grades, texts={question: ["1+1=2;2+2=4"] for question in QUESTIONS})
    wrong = make_answers(grades, texts={question: ["1+1=3;2+2=4"] for question in QUESTIONS})
    assert step_accuracy_sign(right, wrong).outcome == "trouble"
    assert step_accuracy_sign(right, wrong).after == 0.5
    assert all_steps_sign(right, wrong).outcome == "trouble"
    assert step_accuracy_sign(wrong, right).outcome == "no alarm"
    none = make_answers(grades, texts={question: ["so it is 4"] for question in QUESTIONS})
    assert step_accuracy_sign(right, none).outcome == "not measurable"


def test_hard_questions_are_compared_with_a_fresh_sample() -> None:
    """A model against itself has not learnt, though questions were chosen by its failures."""
    rng = np.random.default_rng(0)
    names = [f"q{index}" for index in range(400)]
    rates = rng.uniform(0, 1, 400)
    before, after = (
        make_answers({name: (rng.random(8) < rate).tolist() for name, rate in zip(names, rates, strict=True)})
        for _ in range(2)
    )
    sign = hard_solved_sign(before, after)
    assert sign.before is not None
    assert sign.before > 0.05
    assert sign.interval is not None
    assert sign.interval[0] < 0 < sign.interval[1]


def test_skeletons_tell_orders_apart() -> None:
    question = "41+30+12?"
    found = {
        skeleton(question, text) for text in ("41+30=71;71+12=83>83", "30+41=71;71+12=83>83", "12+30=42;42+41=83>83")
    }
    assert len(found) == 3
    assert skeleton(question, "41+30=71") == "A + B = #"
    assert skeleton("50+60+70?", "50+60=110") == skeleton("1+2+8?", "1+2=3")


def test_predicted_shares_by_hand() -> None:
    shares, accuracies = np.array([0.5, 0.5]), np.array([0.9, 0.6])
    np.testing.assert_allclose(predicted_shares(shares, accuracies, 0.1), [0.6, 0.4], atol=1e-4)
    np.testing.assert_allclose(predicted_shares(shares, accuracies, 1.0), [0.5563, 0.4437], atol=1e-4)
    np.testing.assert_allclose(predicted_shares(shares, accuracies, 0.0), [0.6, 0.4])


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.floats(0.05, 1), st.floats(0, 5))
def test_equal_accuracies_predict_no_drift(weights: list[float], accuracy: float, beta: float) -> None:
    shares = np.array(weights) / sum(weights)
    np.testing.assert_allclose(predicted_shares(shares, np.full(len(shares), accuracy), beta), shares)


def test_collapse_to_one_format_is_trouble() -> None:
    texts = ["1+2", "2+1", "1-2", "2-1"]
    grades = {question: [True] * 4 for question in QUESTIONS}
    before = make_answers(grades, texts=dict.fromkeys(QUESTIONS, texts))
    after = make_answers(grades, texts=dict.fromkeys(QUESTIONS, [texts[0]] * 4))
    asked = dict.fromkeys(QUESTIONS, "1 and 2?")
    drift, effective, excess = format_signs(before, after, asked)
    assert drift.change == pytest.approx(0.75)
    assert effective.before == pytest.approx(4)
    assert effective.after == pytest.approx(1)
    assert effective.outcome == "trouble"
    assert excess.interval is not None
    assert excess.interval[0] > 0
    drift, effective, _ = format_signs(before, before, asked)
    assert drift.change == 0
    assert effective.details["ratio"] == 1
    assert effective.outcome == "no alarm"


def test_formats_that_reward_explains_have_no_excess() -> None:
    """One format is always wrong; after uses the others as before did."""
    before = make_answers(
        {key: [True, True, False, False] for key in QUESTIONS}, texts={key: ["a", "b", "c", "c"] for key in QUESTIONS}
    )
    after = make_answers(dict.fromkeys(QUESTIONS, [True] * 4), texts={key: ["a", "b", "a", "b"] for key in QUESTIONS})
    *_, excess = format_signs(before, after, dict.fromkeys(QUESTIONS, ""))
    assert excess.change == pytest.approx(0, abs=0.02)


def test_patterns_name_formats() -> None:
    classify = by_patterns({"code": r"def \w+", "boxed": r"\\boxed"})
    assert [classify("", text) for text in ("def f():", r"so \boxed{3}", "3")] == ["code", "boxed", "other"]
    with pytest.raises(RLCircuitsError, match=r"format .bad..*no regular expression"):
        by_patterns({"bad": "("})


def test_all_signs_of_a_model_against_itself_are_silent() -> None:
    rng = np.random.default_rng(1)
    grades = {question: (rng.random(8) < 0.7).tolist() for question in QUESTIONS}
    texts = {question: rng.choice(["1+1=2", "2+0=2", "1+2=4"], 8).tolist() for question in QUESTIONS}
    answers = make_answers(grades, texts=texts)
    signs = answer_signs(answers, answers, dict.fromkeys(QUESTIONS, "1+1+1?"))
    assert not [sign.name for sign in signs if sign.outcome == "trouble"]
    assert len({sign.name for sign in signs}) == len(signs)
