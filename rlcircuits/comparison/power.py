"""What a number of questions can show: the power of the tests on accuracy, and the smallest change that they detect.

A change is signed: −0.05 is a fall of 5 points. All tests are one-sided, in the direction of the change. Shares of
questions are from 0 to 1.

A test of paired answers depends on the questions whose answer changes from right to wrong or back, which are called
*discordant*. Their share is given at no change. A change of the accuracy takes place among them, and where it is
larger than that share, every discordant question goes its way. With several answers to a question, the pairs of
answers to one question are taken to change independently of each other, each like the pairs of other questions.

:mod:`rlcircuits.comparison.metric_power` has the same for the metrics.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import LIMITS
from rlcircuits.comparison.paired_interval import constrained_variance
from rlcircuits.comparison.profiles import Direction
from rlcircuits.graph.metrics import Float64Array

POWER = 0.8
"""Power at which a change counts as detectable."""

MOST_QUESTIONS = int(LIMITS["question_count"].most)
"""More questions than this are called infinitely many."""

_NEGLIGIBLE = 1e-12
"""Probability of the numbers of discordant questions that the sums leave out, on either side."""


def discordant_if_independent(before: float, after: float) -> float:
    """Return the share of discordant questions where the two checkpoints' answers do not depend on each other.

    Args:
        before: share of right answers before.
        after: share of right answers after.
    """
    return before * (1 - after) + after * (1 - before)


def accuracy_power(
    questions: int, rate: float, discordant: float, change: float, level: float, answers: int = 1
) -> float:
    """Return the power of the exact one-sided sign test; with one answer to a question, McNemar's test.

    Args:
        questions: number of questions asked of both checkpoints.
        rate: share of right answers before.
        discordant: share of discordant pairs of answers at no change; lowered where the rates do not allow as many.
        change: true change of the rate; 0 is tested for a fall.
        level: the test's level.
        answers: number of answers to each question.

    Raises:
        RLCircuitsError: a number is outside its range, or the rate after would be.
    """
    _check(questions, rate, discordant, level, answers)
    steps = _answer_differences(rate, discordant, change, answers)
    lost, gained = float(steps[:answers].sum()), float(steps[answers + 1 :].sum())
    return _sign_test_power(questions, *((gained, lost) if change > 0 else (lost, gained)), level)


def smallest_accuracy_change(
    questions: int,
    rate: float,
    discordant: float,
    direction: Direction,
    level: float,
    power: float = POWER,
    answers: int = 1,
) -> float | None:
    """Return the smallest fall or rise, as a positive share, that the exact sign test detects with this power.

    Args:
        questions: number of questions asked of both checkpoints.
        rate: share of right answers before.
        discordant: share of discordant pairs of answers at no change.
        direction: ``down`` for a fall, ``up`` for a rise.
        level: the test's level.
        power: probability of detecting the change.
        answers: number of answers to each question.

    Returns:
        The change, or None if even a change to no or to only right answers is not detected.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    _check(questions, rate, discordant, level, answers, power)
    sign, largest = (1, 1 - rate) if direction == "up" else (-1, rate)

    def missing(size: float) -> float:
        return accuracy_power(questions, rate, discordant, sign * size, level, answers) - power

    if largest <= 0 or missing(largest) < 0:
        return None
    return float(optimize.brentq(missing, min(1e-9, largest), largest, xtol=1e-7))


def non_inferiority_power(
    questions: int, rate: float, discordant: float, margin: float, level: float, change: float = 0.0, answers: int = 1
) -> float:
    """Return the power to show by the score interval that accuracy is at most `margin` lower.

    Normal approximation for the test of :func:`~rlcircuits.comparison.paired_interval.paired_difference_p`, with the
    variance that the test uses at the margin and the true one (J. Nam, Biometrics 53, 1997, pages 1422 to 1430).

    Args:
        questions: number of questions asked of both checkpoints.
        rate: share of right answers before.
        discordant: share of discordant pairs of answers at no change.
        margin: largest fall that is still called not inferior, as a share.
        level: the test's one-sided level.
        change: true change of the rate.
        answers: number of answers to each question.

    Raises:
        RLCircuitsError: a number is outside its range, or the rate after would be.
    """
    _check(questions, rate, discordant, level, answers)
    _check_margin(margin)
    at_the_margin, true = _deviations(rate, discordant, -margin, change, answers)
    beyond = (change + margin) * math.sqrt(questions) - float(stats.norm.isf(level)) * at_the_margin
    if true == 0:
        return float(beyond > 0)
    return float(stats.norm.cdf(beyond / true))


def questions_for_margin(
    rate: float,
    discordant: float,
    margin: float,
    level: float,
    power: float = POWER,
    change: float = 0.0,
    answers: int = 1,
) -> int | None:
    """Return how many questions :func:`non_inferiority_power` needs for this power.

    For an unchanged model, one answer to a question, a margin of 2 points, level .05 and power .8 that is a little
    more than 15,456 × `discordant`.

    Args:
        rate: share of right answers before.
        discordant: share of discordant pairs of answers at no change.
        margin: largest fall that is still called not inferior, as a share.
        level: the test's one-sided level.
        power: probability of showing it.
        change: true change of the rate.
        answers: number of answers to each question.

    Returns:
        The number, or None if no number of questions is enough, because the true change is the margin or beyond it.

    Raises:
        RLCircuitsError: a number is outside its range, or the rate after would be.
    """
    _check(1, rate, discordant, level, answers, power)
    _check_margin(margin)
    if change + margin <= 0:
        return None
    at_the_margin, true = _deviations(rate, discordant, -margin, change, answers)
    return _enough(at_the_margin, true, change + margin, level, power)


def questions_for_equivalence(
    rate: float, discordant: float, margin: float, level: float, power: float = POWER, answers: int = 1
) -> int | None:
    """Return how many questions show an unchanged model to be neither `margin` lower nor `margin` higher.

    Both ends of the score interval must be within the margin. Each may miss it, with half of the probability.

    Args:
        rate: share of right answers before.
        discordant: share of discordant pairs of answers at no change.
        margin: largest change either way that is still called equivalent, as a share.
        level: the one-sided level of each of the two tests.
        power: probability of showing it.
        answers: number of answers to each question.

    Returns:
        The number; None if it is more than a billion.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    _check(1, rate, discordant, level, answers, power)
    _check_margin(margin)
    needed = []
    for boundary in (-margin, margin):
        at_the_boundary, true = _deviations(rate, discordant, boundary, 0.0, answers)
        needed.append(_enough(at_the_boundary, true, margin, level, (1 + power) / 2))
    return None if None in needed else max(each for each in needed if each is not None)


def questions_for_claim(
    claimed: float, margin: float, level: float, power: float = POWER, variance_ratio: float = 1.0
) -> int | None:
    """Return how many questions show that a model of the claimed accuracy is at most `margin` below it.

    Args:
        claimed: the accuracy claimed, as a share.
        margin: largest shortfall that is still called not inferior, as a share.
        level: the test's one-sided level.
        power: probability of showing it.
        variance_ratio: variance of a question's share of right answers over that of one answer: 1 with one answer to a
            question, and with several if all answers to one question are alike; less if they differ.

    Returns:
        The number; None if it is more than a billion.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    _check(1, claimed, variance_ratio, level, 1, power)
    _check_margin(margin)
    if claimed < margin:
        return 1  # no accuracy is as far below the claim
    at_the_margin, true = (math.sqrt(variance_ratio * rate * (1 - rate)) for rate in (claimed - margin, claimed))
    return _enough(at_the_margin, true, margin, level, power)


def smallest_shown_rise(
    questions: int,
    rate: float,
    discordant: float,
    minimum: float,
    level: float,
    power: float = POWER,
    answers: int = 1,
) -> float | None:
    """Return the smallest rise that the score interval shows, with this power, to be above a minimum.

    Args:
        questions: number of questions asked of both checkpoints.
        rate: share of right answers before.
        discordant: share of discordant pairs of answers at no change.
        minimum: the least rise that matters, as a share; the interval's lower end must be above it.
        level: one-sided level of that end: .05 for a 90 % interval.
        power: probability of showing it.
        answers: number of answers to each question.

    Returns:
        The rise, as a share, or None if even a rise to only right answers is not shown.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    _check(questions, rate, discordant, level, answers, power)
    if not 0 <= minimum <= 1:
        raise RLCircuitsError(f"minimum is {minimum}; a share from 0 to 1 is wanted: 0.01 for a point")
    z = float(stats.norm.isf(level)), float(stats.norm.ppf(power))

    def beyond(rise: float) -> float:
        at_the_minimum, true = _deviations(rate, discordant, minimum, rise, answers)
        return (rise - minimum) * math.sqrt(questions) - z[0] * at_the_minimum - z[1] * true

    largest = 1 - rate
    if largest <= minimum or beyond(largest) < 0:
        return None
    return float(optimize.brentq(beyond, minimum, largest, xtol=1e-7)) if beyond(minimum) < 0 else minimum


def _enough(at_the_boundary: float, true: float, distance: float, level: float, power: float) -> int | None:
    """Return how many questions show a mean to be beyond a boundary; None if it is more than a billion.

    Args:
        at_the_boundary: a question's standard deviation as the test at the boundary has it.
        true: the true one.
        distance: of the true mean from the boundary.
        level: the test's one-sided level.
        power: probability of showing it.
    """
    needed = float(stats.norm.isf(level)) * at_the_boundary + float(stats.norm.ppf(power)) * true
    count = (needed / distance) ** 2
    return None if count > MOST_QUESTIONS else max(math.ceil(count), 1)


def _check_margin(margin: float) -> None:
    if not 0 < margin <= 1:
        raise RLCircuitsError(f"margin is {margin}; a number above 0 and at most 1 is wanted: 0.02 for 2 points")


def _deviations(rate: float, discordant: float, boundary: float, change: float, answers: int) -> tuple[float, float]:
    """Return the standard deviation of a question's difference as the test at the boundary has it, and the true one."""
    steps = _answer_differences(rate, discordant, change, answers)
    values = np.arange(-answers, answers + 1) / answers
    at_the_boundary = constrained_variance(values, steps, boundary)
    return math.sqrt(at_the_boundary), math.sqrt(max(float(steps @ values**2) - change**2, 0.0))


def _answer_differences(rate: float, discordant: float, change: float, answers: int) -> Float64Array:
    """Return the probability that a question gains −n, …, n right answers, float64 [2 n + 1]."""
    after = rate + change
    if not -1e-12 <= after <= 1 + 1e-12:
        raise RLCircuitsError(f"a change of {change} from a rate of {rate} leads to {after}; a rate is from 0 to 1")
    # No more can be lost than was right, and no more gained than was wrong.
    total = max(min(max(discordant, abs(change)), 2 * rate + change, 2 * (1 - rate) - change), abs(change))
    lost, gained = (total - change) / 2, (total + change) / 2
    if answers == 1:
        return np.array([lost, 1 - total, gained])
    step = np.zeros(2 * answers + 1)
    step[[0, 1, -1]] = 1 - total, gained, lost  # index −1 stands for one answer lost
    pmf = np.fft.irfft(np.fft.rfft(step) ** answers, step.size)
    return np.roll(np.clip(pmf, 0, 1), answers)


def _sign_test_power(questions: int, expected: float, other: float, level: float) -> float:
    """Return the probability that the exact sign test's p in the expected direction is below the level.

    Args:
        questions: number of questions.
        expected: probability that a question changes in the direction that is tested for.
        other: probability that it changes in the other.
        level: the test's level.
    """
    total = min(expected + other, 1.0)
    if total <= 0:
        return 0.0
    changed = stats.binom(questions, total)
    counts = np.arange(max(int(changed.ppf(_NEGLIGIBLE)), 1), int(changed.isf(_NEGLIGIBLE)) + 1)
    # The most that may have changed in the expected direction without p below the level.
    most = np.asarray(stats.binom.isf(level, counts, 0.5))
    most = most + (stats.binom.sf(most, counts, 0.5) >= level)
    among = min(expected / total, 1.0)  # rounding can lead above 1
    return float(np.sum(changed.pmf(counts) * stats.binom.sf(most, counts, among)))


def _check(
    questions: int, rate: float, discordant: float, level: float, answers: int, power: float | None = None
) -> None:
    """Raise RLCircuitsError for a number outside its range."""
    for name, count in (("questions", questions), ("answers", answers)):
        if count < 1:
            raise RLCircuitsError(f"{name} is {count}; a whole number from 1 on is wanted")
    for name, share in (("rate", rate), ("discordant", discordant)):
        if not 0 <= share <= 1:
            raise RLCircuitsError(f"{name} is {share}; a share from 0 to 1 is wanted")
    if not 0 < level < 1:
        raise RLCircuitsError(f"level is {level}; a number between 0 and 1 is wanted, such as 0.05")
    if power is not None and not level < power < 1:
        raise RLCircuitsError(f"power is {power}; a number between the level {level} and 1 is wanted, such as 0.8")
