"""Power of the tests on accuracy: by definition, by enumeration, by simulation, and against what was measured."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.paired_interval import paired_difference_interval, paired_difference_p
from rlcircuits.comparison.power import (
    accuracy_power,
    discordant_if_independent,
    non_inferiority_power,
    questions_for_claim,
    questions_for_equivalence,
    questions_for_margin,
    smallest_accuracy_change,
    smallest_shown_rise,
)

LEVELS = st.sampled_from([0.01, 0.05, 0.1])


def by_enumeration(questions: int, lost: float, gained: float, level: float) -> float:
    """Return the probability of p < level over every number of questions lost and gained."""
    power = 0.0
    for down, up in itertools.product(range(questions + 1), repeat=2):
        if down + up > questions or not down + up:
            continue
        if stats.binomtest(down, down + up, 0.5, alternative="greater").pvalue < level:
            power += stats.multinomial.pmf(
                [down, up, questions - down - up], questions, [lost, gained, 1 - lost - gained]
            )
    return power


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 14), st.floats(0.01, 0.5), st.floats(0, 0.4), LEVELS)
def test_one_answer_by_enumeration(questions: int, discordant: float, fall: float, level: float) -> None:
    total = max(discordant, fall)
    found = accuracy_power(questions, 0.5, discordant, -fall, level)
    assert found == pytest.approx(by_enumeration(questions, (total + fall) / 2, (total - fall) / 2, level), abs=1e-9)
    assert accuracy_power(questions, 0.5, discordant, fall or -0.0, level) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("answers", [2, 3])
@pytest.mark.parametrize(("discordant", "fall"), [(0.3, 0.1), (0.1, 0.3), (0.4, 0.0)])
def test_several_answers_by_enumeration(answers: int, discordant: float, fall: float) -> None:
    """Every pair of answers to a question is lost, gained or neither, independently."""
    total = max(discordant, fall)
    probability = {-1: (total + fall) / 2, 0: 1 - total, 1: (total - fall) / 2}
    lost = gained = 0.0
    for steps in itertools.product(probability, repeat=answers):
        weight = float(np.prod([probability[step] for step in steps]))
        lost, gained = lost + weight * (sum(steps) < 0), gained + weight * (sum(steps) > 0)
    found = accuracy_power(9, 0.6, discordant, -fall, 0.1, answers)
    assert found == pytest.approx(by_enumeration(9, lost, gained, 0.1), abs=1e-9)


@pytest.mark.parametrize(
    ("discordant", "fall", "seen"),
    [
        # Measured on the shipped pairs: 400 questions, level .05.
        (0.05, 0.02, 0.49), (0.08, 0.02, 0.35), (0.22, 0.02, 0.18),
        (0.05, 0.03, 0.83), (0.08, 0.03, 0.64), (0.22, 0.03, 0.32),
        (0.05, 0.05, 1.00), (0.08, 0.05, 0.97), (0.22, 0.05, 0.65),
    ],
)  # fmt: skip
def test_the_power_that_a_red_team_measured(discordant: float, fall: float, seen: float) -> None:
    assert accuracy_power(400, 0.87, discordant, -fall, 0.05) == pytest.approx(seen, abs=0.006)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(5, 500),
    st.floats(0.1, 0.9),
    st.floats(0, 0.3),
    st.floats(-0.1, 0.1),
    LEVELS,
    st.sampled_from([1, 2, 5]),
)
def test_power_rises_with_the_change_the_level_and_four_times_the_questions(
    questions: int, rate: float, discordant: float, change: float, level: float, answers: int
) -> None:
    assume(abs(change) > 1e-6)

    def power(questions: int = questions, change: float = change, level: float = level) -> float:
        return accuracy_power(questions, rate, discordant, change, level, answers)

    assert 0 <= power() <= 1 + 1e-9
    assert power(change=change / 2) <= power() + 1e-9
    assert power(level=level / 2) <= power() + 1e-9
    # A few questions more can lower an exact test's power a little, since its p takes few values.
    assert power(questions=4 * questions) >= power() - 1e-9
    assert accuracy_power(questions, rate, discordant, 0.0, level, answers) <= level


@settings(max_examples=20, deadline=None)
@given(
    st.integers(50, 2000),
    st.floats(0.05, 0.99),
    st.floats(0.01, 0.3),
    st.sampled_from(["up", "down"]),
    st.sampled_from([1, 3]),
)
def test_the_smallest_change_is_just_detected(
    questions: int, rate: float, discordant: float, direction: Any, answers: int
) -> None:
    found = smallest_accuracy_change(questions, rate, discordant, direction, 0.05, answers=answers)
    sign, room = (1, 1 - rate) if direction == "up" else (-1, rate)

    def power(size: float) -> float:
        return accuracy_power(questions, rate, discordant, sign * size, 0.05, answers)

    if found is None:
        assert power(room) < 0.8
        return
    assert power(found) == pytest.approx(0.8, abs=1e-3)
    assert power(0.98 * found) < 0.8
    smaller = smallest_accuracy_change(4 * questions, rate, discordant, direction, 0.05, answers=answers)
    assert smaller is not None
    assert smaller < found


def test_it_is_normal_theorys_where_many_questions_change() -> None:
    """(z.95 + z.80) × sqrt(discordant / questions)."""
    wanted = 2.4865 * (0.2 / 20_000) ** 0.5
    for direction in ("up", "down"):
        found = smallest_accuracy_change(20_000, 0.6, 0.2, direction, 0.05)  # type: ignore[arg-type]
        assert found == pytest.approx(wanted, rel=0.02)
    # Two answers to a question are worth about as much as two questions.
    assert smallest_accuracy_change(10_000, 0.6, 0.2, "down", 0.05, answers=2) == pytest.approx(wanted, rel=0.15)


def test_where_nothing_can_be_detected() -> None:
    assert smallest_accuracy_change(400, 1.0, 0.0, "up", 0.05) is None
    assert smallest_accuracy_change(400, 0.995, 0.01, "up", 0.05) is None
    assert smallest_accuracy_change(4, 0.9, 0.1, "down", 0.05) is None
    # Five of five lost have p = 1/32, and so must be seen.
    assert smallest_accuracy_change(5, 1.0, 0.0, "down", 0.05) == pytest.approx(0.8**0.2)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.001, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("discordant", [0.0, 1e-9, 0.1, 1.0])
@pytest.mark.parametrize("answers", [1, 3])
def test_rates_and_shares_at_their_ends_have_an_answer(rate: float, discordant: float, answers: int) -> None:
    for questions, direction in itertools.product((1, 2, 400), ("up", "down")):
        found = smallest_accuracy_change(questions, rate, discordant, direction, 0.05, answers=answers)  # type: ignore[arg-type]
        room = 1 - rate if direction == "up" else rate
        assert found is None or 0 < found <= room
    needed = questions_for_margin(rate, discordant, 0.02, 0.05, answers=answers)
    assert needed is not None
    assert needed > 0


def test_independent_answers() -> None:
    assert discordant_if_independent(0.86, 0.86) == pytest.approx(2 * 0.86 * 0.14)
    assert discordant_if_independent(1.0, 0.25) == 0.75


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.3, 0.99), st.floats(0.01, 0.4), st.sampled_from([0.01, 0.02, 0.05]), LEVELS, st.sampled_from([1, 2, 5])
)
def test_the_margins_number_of_questions_has_the_power(
    rate: float, discordant: float, margin: float, level: float, answers: int
) -> None:
    found = questions_for_margin(rate, discordant, margin, level, answers=answers)
    assert found is not None

    def power(questions: int) -> float:
        return non_inferiority_power(questions, rate, discordant, margin, level, answers=answers)

    assert power(found) >= 0.8 - 1e-9
    assert found == 1 or power(found - 1) < 0.8
    for harder in (
        questions_for_margin(rate, discordant, margin / 2, level, answers=answers),
        questions_for_margin(rate, discordant, margin, level / 2, answers=answers),
        questions_for_margin(rate, discordant, margin, level, power=0.9, answers=answers),
        questions_for_margin(rate, discordant, margin, level, change=-margin / 2, answers=answers),
    ):
        assert harder is not None
        assert harder >= found
    assert questions_for_margin(rate, discordant, margin, level, change=-margin, answers=answers) is None


@pytest.mark.parametrize(("discordant", "seen"), [(0.05, 780), (0.08, 1240), (0.22, 3400)])
def test_two_points_need_about_15_500_questions_times_the_share_discordant(discordant: float, seen: int) -> None:
    """The test's own variance at the margin adds up to 60 questions to the normal theory that `seen` is from."""
    found = questions_for_margin(0.87, discordant, 0.02, 0.05)
    assert found is not None
    assert seen <= found <= seen + 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "discordant", "change", "answers"),
    [(0.87, 0.05, 0.0, 1), (0.87, 0.22, 0.0, 1), (0.9, 0.1, 0.01, 1), (0.87, 0.2, 0.0, 3), (0.95, 0.08, -0.005, 1)],
)
def test_non_inferiority_is_shown_as_often_as_planned(
    rate: float, discordant: float, change: float, answers: int
) -> None:
    questions = questions_for_margin(rate, discordant, 0.02, 0.05, change=change, answers=answers)
    assert questions is not None
    rng = np.random.default_rng(1)
    lost, draws = (discordant - change) / 2, 2000
    drawn = rng.random((draws, questions, answers))
    after = 1.0 - (drawn < lost).mean(axis=-1)
    before = 1.0 - ((drawn >= lost) & (drawn < discordant)).mean(axis=-1)
    shown = sum(paired_difference_p(*sides, -0.02, "greater") < 0.05 for sides in zip(before, after, strict=True))
    assert shown / draws == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0.9, 0.1, -0.1, 0.05), "questions is 0"),
        ((9, 1.9, 0.1, -0.1, 0.05), "rate is 1.9"),
        ((9, 0.9, -0.1, -0.1, 0.05), "discordant is -0.1"),
        ((9, 0.9, 0.1, 0.2, 0.05), "leads to 1.1"),
        ((9, 0.9, 0.1, -0.1, 1.0), "level is 1.0"),
        ((9, 0.9, 0.1, -0.1, 0.05, 0), "answers is 0"),
    ],
)
def test_bad_numbers_are_told(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        accuracy_power(*arguments)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 0.99), st.floats(0.01, 0.4), st.sampled_from([0.01, 0.02, 0.05]), st.sampled_from([1, 4]))
def test_equivalence_needs_more_than_one_end_does(rate: float, discordant: float, margin: float, answers: int) -> None:
    both = questions_for_equivalence(rate, discordant, margin, 0.05, answers=answers)
    one, surer = (questions_for_margin(rate, discordant, margin, 0.05, power, answers=answers) for power in (0.8, 0.9))
    assert both is not None
    assert one is not None
    assert surer is not None
    assert both >= surer >= one


@settings(max_examples=20, deadline=None)
@given(st.integers(50, 3000), st.floats(0.2, 0.95), st.floats(0.01, 0.3), st.sampled_from([1, 4]))
def test_a_rise_that_is_shown_is_above_the_minimum_and_shrinks_with_the_questions(
    questions: int, rate: float, discordant: float, answers: int
) -> None:
    found = smallest_shown_rise(questions, rate, discordant, 0.01, 0.05, answers=answers)
    if found is None:
        return
    assert 0.01 < found <= 1 - rate
    more = smallest_shown_rise(4 * questions, rate, discordant, 0.01, 0.05, answers=answers)
    assert more is not None
    assert more < found
    higher = smallest_shown_rise(questions, rate, discordant, 0.03, 0.05, answers=answers)
    assert higher is None or higher > found


def test_a_claim_is_a_one_sample_test() -> None:
    """The textbook's number for one binomial rate: (z.95 × σ at the margin + z.80 × σ at the claim)² / margin²."""
    wanted = ((1.644854 * (0.95 * 0.05) ** 0.5 + 0.841621 * (0.97 * 0.03) ** 0.5) / 0.02) ** 2
    assert questions_for_claim(0.97, 0.02, 0.05) == math.ceil(wanted) == 631
    assert questions_for_claim(0.97, 0.02, 0.05, variance_ratio=0.25) == math.ceil(wanted / 4)
    assert questions_for_claim(0.01, 0.02, 0.05) == 1
    with pytest.raises(RLCircuitsError, match="margin is 0"):
        questions_for_claim(0.97, 0.0, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 4])
def test_claim_equivalence_and_rise_are_shown_as_often_as_planned(answers: int) -> None:
    """By simulation with the interval that the verdict reads."""
    rng = np.random.default_rng(answers)
    rate, discordant, draws = 0.9, 0.1, 400

    def interval(questions: int, change: float) -> tuple[float, float]:
        lost, drawn = (discordant - change) / 2, rng.random((questions, answers))
        after = 1.0 - (drawn < lost).mean(axis=-1)
        before = 1.0 - ((drawn >= lost) & (drawn < discordant)).mean(axis=-1)
        return paired_difference_interval(before, after, 0.9)

    questions = questions_for_equivalence(rate, discordant, 0.02, 0.05, answers=answers)
    assert questions is not None
    ends = [interval(questions, 0.0) for _ in range(draws)]
    assert np.mean([low > -0.02 and high < 0.02 for low, high in ends]) == pytest.approx(0.8, abs=0.06)
    rise = smallest_shown_rise(400, rate, discordant, 0.01, 0.05, answers=answers)
    assert rise is not None
    assert np.mean([interval(400, rise)[0] > 0.01 for _ in range(draws)]) == pytest.approx(0.8, abs=0.06)
    questions = questions_for_claim(0.9, 0.04, 0.05)
    assert questions is not None
    right = rng.random((draws, questions)) < 0.9
    claimed = np.full(questions, 0.9)
    lows = [paired_difference_interval(claimed, each.astype(float), 0.9)[0] for each in right]
    assert np.mean(np.array(lows) > -0.04) == pytest.approx(0.8, abs=0.06)


def test_a_bad_power_or_margin_is_told() -> None:
    with pytest.raises(RLCircuitsError, match=r"power is 0\.01; a number between the level 0\.05 and 1"):
        smallest_accuracy_change(9, 0.9, 0.1, "up", 0.05, power=0.01)
    with pytest.raises(RLCircuitsError, match="margin is 2"):
        questions_for_margin(0.9, 0.1, 2, 0.05)
