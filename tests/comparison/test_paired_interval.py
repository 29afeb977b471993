"""The paired interval is Tango's for one answer to a question, keeps its coverage, and agrees with its test."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.paired_interval import (
    constrained_variance,
    paired_difference_interval,
    paired_difference_p,
)

Shares = tuple[np.ndarray, np.ndarray]


def one_answer(lost: int, gained: int, same: int) -> Shares:
    before = np.array([1.0] * lost + [0.0] * gained + [1.0] * same)
    after = np.array([0.0] * lost + [1.0] * gained + [1.0] * same)
    return before, after


def tango_z(lost: int, gained: int, questions: int, difference: float) -> float:
    """Tango's statistic in closed form: his quadratic equation for the restricted share lost."""
    b = -gained - lost + (2 * questions - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    restricted = (math.sqrt(b * b - 8 * questions * c) - b) / (4 * questions)
    variance = questions * (2 * restricted + difference * (1 - difference))
    return (gained - lost - questions * difference) / math.sqrt(variance)


@st.composite
def shares(draw: st.DrawFn) -> Shares:
    """Shares of up to 30 questions, of up to 4 answers on each side."""
    answers = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = draw(st.integers(1, 30))
    return tuple(  # type: ignore[return-value]
        np.array(draw(st.lists(st.integers(0, n), min_size=size, max_size=size)), dtype=float) / n for n in answers
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 300), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_with_one_answer_it_is_tangos_interval(lost: int, gained: int, same: int, confidence: float) -> None:
    questions = lost + gained + same
    assume(questions)
    low, high = paired_difference_interval(*one_answer(lost, gained, same), confidence)
    z = stats.norm.isf((1 - confidence) / 2)
    assert low == -1 or tango_z(lost, gained, questions, low) == pytest.approx(z, abs=1e-5)
    assert high == 1 or tango_z(lost, gained, questions, high) == pytest.approx(-z, abs=1e-5)
    assert (low == -1) == (lost == questions)
    assert (high == 1) == (gained == questions)


def test_no_change_at_all_has_an_interval_with_a_width() -> None:
    """It is that of z² / (N + z²), where a standard error would be 0."""
    z = stats.norm.isf(0.025)
    low, high = paired_difference_interval(*one_answer(0, 0, 44), 0.95)
    assert (-low, high) == pytest.approx((z * z / (44 + z * z),) * 2)


@settings(max_examples=30, deadline=None)
@given(shares())
def test_it_holds_the_mean_is_odd_and_widens_with_confidence(sides: Shares) -> None:
    before, after = sides
    mean = (after - before).mean()
    low, high = paired_difference_interval(before, after, 0.9)
    assert -1 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert paired_difference_interval(after, before, 0.9) == pytest.approx((-high, -low), abs=1e-9)
    wider_low, wider_high = paired_difference_interval(before, after, 0.99)
    assert wider_low <= low + 1e-9
    assert wider_high >= high - 1e-9
    # The same again gives the same mean, more surely.
    twice_low, twice_high = paired_difference_interval(np.tile(before, 2), np.tile(after, 2), 0.9)
    assert low - 1e-9 <= twice_low
    assert twice_high <= high + 1e-9


@settings(max_examples=30, deadline=None)
@given(shares(), st.floats(-0.9, 0.9), st.sampled_from([0.01, 0.05]))
def test_the_interval_holds_what_the_test_does_not_reject(sides: Shares, difference: float, level: float) -> None:
    low, high = paired_difference_interval(*sides, 1 - 2 * level)
    assume(min(abs(difference - low), abs(difference - high)) > 1e-6)
    assert (paired_difference_p(*sides, difference, "greater") < level) == (difference < low)
    assert (paired_difference_p(*sides, difference, "less") < level) == (difference > high)


@settings(max_examples=20, deadline=None)
@given(shares())
def test_p_rises_with_the_hypothesis(sides: Shares) -> None:
    p = [paired_difference_p(*sides, difference, "greater") for difference in np.linspace(-0.95, 0.95, 15)]
    assert all(first <= second + 1e-9 for first, second in itertools.pairwise(p))


@pytest.mark.parametrize("mean", [-0.6, -0.02, 0.05, 0.8])
@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([0.0], [50]),
        ([-0.5, 0.0, 0.5], [2, 40, 5]),
        ([0.0, 0.2, 0.4], [90, 8, 2]),
        ([-1.0, -0.25, 0.0, 1.0], [1, 6, 60, 3]),
    ],
)
def test_the_variance_is_that_of_the_most_likely_distribution(
    values: list[float], counts: list[int], mean: float
) -> None:
    """Against a general optimiser over weights of a fine grid on [−1, 1] and of the values seen."""
    points = np.unique([*np.linspace(-1, 1, 9), *values])
    seen = np.array([dict(zip(values, counts, strict=True)).get(point, 0) for point in points], dtype=float)
    seen /= seen.sum()
    start = np.full(points.size, 1 / points.size)
    found = optimize.minimize(
        lambda weights: -float(np.sum(seen[seen > 0] * np.log(np.maximum(weights[seen > 0], 1e-300)))),
        start,
        bounds=[(1e-12, 1)] * points.size,
        constraints=[
            {"type": "eq", "fun": lambda weights: weights.sum() - 1},
            {"type": "eq", "fun": lambda weights: weights @ points - mean},
        ],
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    assert found.success
    wanted = found.x @ (points - mean) ** 2
    weights = np.array(counts) / sum(counts)
    assert constrained_variance(np.array(values), weights, mean) == pytest.approx(wanted, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "confidence", "words"),
    [
        ([], [], 0.9, "one question at least"),
        ([1.0], [1.0, 0.0], 0.9, r"shapes \(1,\) and \(2,\)"),
        ([1.0, 1.5], [1.0, 0.0], 0.9, "before hold 1.5"),
        ([1.0], [math.nan], 0.9, "after hold nan"),
        ([1.0], [1.0], 1.0, "confidence is 1.0"),
    ],
)
def test_bad_input_is_told(before: list[float], after: list[float], confidence: float, words: str) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        paired_difference_interval(np.array(before), np.array(after), confidence)


def test_a_difference_out_of_range_is_told() -> None:
    with pytest.raises(RLCircuitsError, match="difference is -1"):
        paired_difference_p(np.ones(3), np.ones(3), -1, "greater")


DRAWS = 2000


@pytest.mark.slow
@pytest.mark.parametrize("fragile", [1.0, 0.5])
@pytest.mark.parametrize(
    ("questions", "answers", "lost", "gained"),
    [
        (400, 1, 0.04, 0.04),
        (400, 1, 0.12, 0.12),
        (400, 1, 0.01, 0.08),
        (100, 1, 0.01, 0.01),
        (200, 1, 0.02, 0.0),
        (400, 1, 0.005, 0.0),
        (400, 2, 0.06, 0.03),
        (200, 5, 0.02, 0.01),
        (400, 5, 0.02, 0.0),
        (50, 4, 0.1, 0.3),
    ],
)
def test_coverage(questions: int, answers: int, lost: float, gained: float, fragile: float) -> None:
    """A 95 % interval misses about 5 % of the time, near the boundary too, where few answers change.

    `lost` and `gained` are shares of the pairs of answers. They change on a `fragile` part of the questions only, so
    that where this is not 1 the answers to one question depend on each other.
    """
    rng = np.random.default_rng([questions, answers, round(1000 * lost)])
    factor = (rng.random((DRAWS, questions, 1)) < fragile) / fragile
    drawn = rng.random((DRAWS, questions, answers))
    loses = drawn < lost * factor
    gains = (drawn > 1 - gained * factor) & ~loses
    before, after = (~gains).mean(axis=-1), (~loses).mean(axis=-1)
    misses = {
        side: sum(paired_difference_p(*sides, gained - lost, side) < 0.025 for sides in zip(before, after, strict=True))
        for side in ("greater", "less")
    }
    # A simulation's error is 0.5 points. Where fewer than ten answers change, the numbers are those of the docstring.
    few = questions * answers * (lost + gained) < 10
    assert sum(misses.values()) / DRAWS < (0.085 if few else 0.065)
    assert misses["greater"] / DRAWS < 0.04  # what non-inferiority rests on
    assert misses["less"] / DRAWS < (0.075 if few else 0.04)
