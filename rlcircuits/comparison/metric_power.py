"""What a number of questions can show of a metric, and how many would settle a comparison.

:mod:`rlcircuits.comparison.power` has the same for accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from scipy import optimize, stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.comparison.power import MOST_QUESTIONS, POWER

SIGNED_RANK_EFFICIENCY = 3 / math.pi
"""Asymptotic efficiency of the signed-rank test relative to Student's for normal differences.

The signed-rank test needs 1 / 0.955 as many questions. Where differences have heavier tails than normal ones, as they
mostly do here, it needs fewer than Student's test does, so that the changes given with it are on the safe side. For
no continuous symmetric distribution is it below 0.864 (J. Hodges and E. Lehmann, 1956)."""

SETTLING_POWER = 0.9
"""Power of the number of questions that would settle an inconclusive comparison."""


def smallest_mean_change(standard_deviation: float, questions: int, level: float, power: float = POWER) -> float | None:
    """Return the smallest mean change of a metric that the exact one-sided signed-rank test detects with this power.

    That is Student's test's for :data:`SIGNED_RANK_EFFICIENCY` × as many questions. It says nothing of the profile's
    minimum and of the noise control, which an effect must exceed as well. On seven or eight questions, at level .01,
    the power is about .7 where .8 is asked for.

    Args:
        standard_deviation: of the questions' differences, after − before, in any unit.
        questions: number of questions compared.
        level: the test's one-sided level.
        power: probability of detecting the change.

    Returns:
        The change, in the standard deviation's unit. None if no change can be detected: with fewer than
        :func:`fewest_questions` the test's p is never below the level.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    if 1 <= questions < fewest_questions(level):
        return None
    student = _smallest_by_student(standard_deviation, questions, level, power)
    return student / math.sqrt(SIGNED_RANK_EFFICIENCY)


def smallest_holding_change(
    standard_deviation: float, questions: int, level: float, minimum: float, power: float = POWER
) -> float | None:
    """Return the smallest mean change that is both detected and shown to be no less than a minimum.

    The second by a 95 % interval of the mean, whose lower end must not be below the minimum.

    Args:
        standard_deviation: of the questions' differences, after − before, in any unit.
        questions: number of questions compared.
        level: the signed-rank test's one-sided level.
        minimum: the smallest change that is not negligible, in the same unit.
        power: probability that the change is detected, and that the interval is clear of the minimum.

    Returns:
        The change, or None as :func:`smallest_mean_change`.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    detected = smallest_mean_change(standard_deviation, questions, level, power)
    if detected is None:
        return None
    return max(detected, minimum + _smallest_by_student(standard_deviation, questions, (1 - CONFIDENCE) / 2, power))


def questions_for_bound(standard_deviation: float, bound: float, power: float = POWER) -> int | None:
    """Return how many questions show an unchanged metric to be the same: a 95 % interval within ± the bound.

    Args:
        standard_deviation: of the questions' differences, after − before, in any unit.
        bound: largest change either way that counts as the same, in the same unit; above 0.
        power: probability that the interval is within the bound.

    Returns:
        The number; None if it is more than a billion.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    if not standard_deviation >= 0 or math.isinf(standard_deviation) or not bound > 0 or not 0 < power < 1:
        raise RLCircuitsError(
            f"standard_deviation, bound and power are {standard_deviation}, {bound} and {power}; a number from 0 on, "
            f"one above 0 and one between 0 and 1 are wanted"
        )
    # The interval may miss the bound on either side, each with half of the probability.
    z = float(stats.norm.isf((1 - CONFIDENCE) / 2) + stats.norm.ppf((1 + power) / 2))
    count = (z * standard_deviation / bound) ** 2
    return None if count > MOST_QUESTIONS else max(math.ceil(count), 2)


def fewest_questions(level: float) -> int:
    """Return how many questions that all rise the exact one-sided signed-rank test needs for p below the level.

    Args:
        level: the test's one-sided level, between 0 and 1.
    """
    return math.floor(-math.log2(level)) + 1


def _smallest_by_student(standard_deviation: float, questions: int, level: float, power: float) -> float:
    """Return the smallest mean change that Student's one-sided test detects, from the noncentral t distribution."""
    if questions < 2:
        raise RLCircuitsError(f"questions is {questions}; 2 at least are wanted, for a standard deviation")
    if not standard_deviation >= 0 or math.isinf(standard_deviation):
        raise RLCircuitsError(f"standard_deviation is {standard_deviation}; a number from 0 on is wanted")
    if not 0 < level < power < 1:
        raise RLCircuitsError(f"level and power are {level} and {power}; 0 < level < power < 1 is wanted")
    freedom = questions - 1
    critical = float(stats.t.isf(level, freedom))

    def missing(distance: float) -> float:
        return float(stats.nct.sf(critical, freedom, distance)) - power

    # The distance of the mean from 0, in standard errors. At 0 the power is the level.
    most = 2 * critical + 2 * float(stats.t.ppf(power, freedom)) + 2
    while missing(most) < 0:
        most *= 2
    return float(optimize.brentq(missing, 0, most)) * standard_deviation / math.sqrt(questions)


def questions_to_settle(
    difference: float,
    standard_error: float,
    k: int,
    boundaries: Collection[float],
    confidence: float = 0.95,
    power: float = SETTLING_POWER,
) -> int | None:
    """Return how many questions would bring the interval of a difference clear of every boundary.

    The true difference is taken to be the one seen, and the standard error to fall as one over the root of the number
    of questions. Clear means that the interval holds no boundary and lies between the same two as the difference.

    Args:
        difference: the mean difference seen.
        standard_error: its standard error, in the same unit.
        k: number of questions it was seen on.
        boundaries: the values that decide, such as 0 and the minimum effect, or both ends of an equivalence margin.
        confidence: confidence level of the two-sided interval.
        power: probability that the interval is clear.

    Returns:
        The number of questions; `k` itself if the interval is clear already. None if no number would settle it: the
        difference is on a boundary, or so close that more than a billion questions are needed.

    Raises:
        RLCircuitsError: a number is outside its range.
    """
    if not math.isfinite(difference) or not 0 <= standard_error < math.inf or k < 1:
        raise RLCircuitsError(
            f"difference, standard_error and k are {difference}, {standard_error} and {k}; a number, a number from 0 "
            f"on and a whole number from 1 on are wanted"
        )
    if not 0 < confidence < 1 or not 0 < power < 1:
        raise RLCircuitsError(f"confidence and power are {confidence} and {power}; numbers between 0 and 1 are wanted")
    below = max((each for each in boundaries if each <= difference), default=-math.inf)
    above = min((each for each in boundaries if each >= difference), default=math.inf)
    if difference in (below, above):
        return None
    z = float(stats.norm.isf((1 - confidence) / 2))
    if min(difference - below, above - difference) > z * standard_error:
        return k

    def missing(questions: float) -> float:
        error = standard_error * math.sqrt(k / questions)
        missed = sum(float(stats.norm.sf(abs(end - difference) / error - z)) for end in (below, above))
        return 1 - missed - power

    if missing(MOST_QUESTIONS) < 0:
        return None
    if missing(k) >= 0:
        return k
    return math.ceil(optimize.brentq(missing, k, MOST_QUESTIONS, xtol=0.01))


def settling_in_words(questions: int | None, power: float = SETTLING_POWER) -> str:
    """Return what :func:`questions_to_settle` found, rounded up to two digits: it is an estimate.

    Args:
        questions: what was returned.
        power: the power it was asked for.
    """
    if questions is None:
        return "no number of questions would settle it"
    unit = 10 ** max(len(str(questions)) - 2, 0)
    return f"about {math.ceil(questions / unit) * unit:,} questions would settle it ({100 * power:g} % power)"
