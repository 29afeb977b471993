"""The smallest change of a metric, and the questions that settle a comparison: by other libraries and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.metric_power import (
    SIGNED_RANK_EFFICIENCY,
    fewest_questions,
    questions_for_bound,
    questions_to_settle,
    settling_in_words,
    smallest_holding_change,
    smallest_mean_change,
)
from rlcircuits.comparison.paired_statistics import signed_rank


@pytest.mark.parametrize("questions", [5, 20, 200, 2000])
@pytest.mark.parametrize("level", [0.01, 0.05])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_but_for_the_efficiency_it_is_students_test(questions: int, level: float, power: float) -> None:
    wanted = TTestPower().solve_power(nobs=questions, alpha=level, power=power, alternative="larger")
    found = smallest_mean_change(3.0, questions, level, power)
    if questions == 5 and level == 0.01:
        assert found is None  # all five up: p = 1/32
        return
    assert found == pytest.approx(3.0 * float(wanted) / math.sqrt(SIGNED_RANK_EFFICIENCY), rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1e6), st.integers(8, 5000), st.sampled_from([0.01, 0.05, 0.2]))
def test_it_falls_with_the_questions_and_the_level_and_has_the_deviations_unit(
    deviation: float, questions: int, level: float
) -> None:
    def change(
        deviation: float = deviation, questions: int = questions, level: float = level, power: float = 0.8
    ) -> float:
        found = smallest_mean_change(deviation, questions, level, power)
        assert found is not None
        return found

    assert change() == pytest.approx(deviation * change(deviation=1))
    assert change(questions=2 * questions) <= change()
    assert change(level=level / 2) >= change()
    assert change(power=0.9) >= change()
    holds = smallest_holding_change(deviation, questions, level, 0.05)
    assert holds is not None
    assert holds >= max(0.05, change())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.floats(1e-4, 0.3))
def test_a_change_is_detectable_just_where_the_exact_test_can_reach_the_level(questions: int, level: float) -> None:
    least_p = signed_rank(np.arange(1.0, questions + 1), "greater")
    assert (questions < fewest_questions(level)) == (least_p >= level)
    if questions > 1:
        assert (smallest_mean_change(1, questions, level) is None) == (least_p >= level)
        assert (smallest_holding_change(1, questions, level, 0.1) is None) == (least_p >= level)


def test_seven_questions_are_the_fewest_at_the_verdicts_level() -> None:
    assert [fewest_questions(level) for level in (0.01, 0.05, 0.5)] == [7, 5, 2]


@pytest.mark.slow
def test_a_bound_and_a_minimum_are_shown_as_often_as_planned() -> None:
    rng = np.random.default_rng(1)

    def intervals(mean: float, questions: int) -> list[tuple[float, float]]:
        rows = rng.normal(mean, 0.3, (1500, questions))
        return [stats.norm.interval(0.95, row.mean(), row.std(ddof=1) / math.sqrt(questions)) for row in rows]

    questions = questions_for_bound(0.3, 0.1)
    assert questions == 95
    shares = [low > -0.1 and high < 0.1 for low, high in intervals(0.0, questions)]
    assert np.mean(shares) == pytest.approx(0.8, abs=0.04)
    change = smallest_holding_change(0.3, 200, 0.01, 0.05)
    assert change is not None
    assert np.mean([low > 0.05 for low, _ in intervals(change, 200)]) == pytest.approx(0.8, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("questions", [30, 100, 200])
def test_the_signed_rank_test_detects_it_as_often_as_planned(questions: int) -> None:
    """80 % where differences are normal; more where their tails are heavier."""
    rng = np.random.default_rng(questions)
    change = smallest_mean_change(1, questions, 0.01)
    shares = []
    for noise in (rng.standard_normal((1500, questions)), rng.standard_t(4, (1500, questions)) / math.sqrt(2)):
        assert change is not None
        shares.append(np.mean([signed_rank(row + change, "greater") < 0.01 for row in noise]))
    assert shares[0] == pytest.approx(0.8, abs=0.035)
    assert shares[1] > 0.8


@settings(max_examples=40, deadline=None)
@given(st.floats(-1, 1), st.floats(0.01, 1), st.integers(20, 1000))
def test_one_boundary_is_the_textbooks_formula(difference: float, error: float, k: int) -> None:
    """Where the interval holds 0: ((z of the interval + z of the power) × standard deviation / difference)²."""
    assume(abs(difference) > 0.01)
    found = questions_to_settle(difference, error, k, [0.0])
    if abs(difference) > 1.959964 * error:
        assert found == k
        return
    wanted = ((1.959964 + 1.281552) * error * math.sqrt(k) / difference) ** 2
    assert found is not None
    assert found > k
    assert found == pytest.approx(wanted, rel=1e-3, abs=1)


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.09, 0.09), st.floats(0.05, 1), st.integers(20, 1000))
def test_two_boundaries_need_as_many_as_the_nearer_or_more(difference: float, error: float, k: int) -> None:
    both, low, high = (questions_to_settle(difference, error, k, ends) for ends in ([-0.1, 0.1], [-0.1], [0.1]))
    assert both is not None
    assert low is not None
    assert high is not None
    assert both >= max(low, high)
    further = questions_to_settle(difference, error, k, [-0.2, -0.1, 0.1, 0.5])
    assert further == both
    assert questions_to_settle(-difference, error, k, [-0.1, 0.1]) == both
    surer = questions_to_settle(difference, error, k, [-0.1, 0.1], power=0.99)
    assert surer is not None
    assert surer >= both


def test_what_no_number_of_questions_settles() -> None:
    assert questions_to_settle(0.0, 0.1, 200, [0.0]) is None
    assert questions_to_settle(0.02, 0.0, 200, [-0.02, 0.02]) is None
    assert questions_to_settle(1e-9, 0.1, 200, [0.0]) is None
    assert questions_to_settle(0.01, 0.0, 200, [0.0]) == 200
    assert questions_to_settle(0.01, 0.3, 200, []) == 200


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        (None, "no number of questions would settle it"),
        (7, "about 7 questions would settle it (90 % power)"),
        (731, "about 740 questions would settle it (90 % power)"),
        (12345, "about 13,000 questions would settle it (90 % power)"),
        (99900, "about 100,000 questions would settle it (90 % power)"),
    ],
)
def test_in_words(questions: int | None, words: str) -> None:
    assert settling_in_words(questions) == words


@pytest.mark.slow
@pytest.mark.parametrize(("difference", "boundaries"), [(0.03, (0.0,)), (0.004, (-0.05, 0.05)), (0.02, (0.0, 0.05))])
def test_an_interval_on_so_many_questions_is_clear_as_often_as_said(
    difference: float, boundaries: tuple[float, ...]
) -> None:
    deviation = 0.4
    found = questions_to_settle(difference, deviation / math.sqrt(100), 100, boundaries)
    assert found is not None
    rng = np.random.default_rng(3)
    clear = 0
    for _ in range(1500):
        values = rng.normal(difference, deviation, found)
        low, high = stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / math.sqrt(found))
        clear += not any(low <= end <= high for end in boundaries)
    assert clear / 1500 == pytest.approx(0.9, abs=0.025)


def test_bad_numbers_are_told() -> None:
    with pytest.raises(RLCircuitsError, match="questions is 0; 2 at least"):
        smallest_mean_change(1, 0, 0.01)
    with pytest.raises(RLCircuitsError, match="standard_deviation, bound and power are 1, 0 and"):
        questions_for_bound(1, 0)
    with pytest.raises(RLCircuitsError, match="standard_deviation is nan"):
        smallest_mean_change(math.nan, 9, 0.01)
    with pytest.raises(RLCircuitsError, match="0 < level < power < 1"):
        smallest_mean_change(1, 9, 0.9)
    with pytest.raises(RLCircuitsError, match="standard_error and k are nan"):
        questions_to_settle(math.nan, 1, 9, [0])
    with pytest.raises(RLCircuitsError, match="confidence and power are 1"):
        questions_to_settle(1, 1, 9, [0], confidence=1)
