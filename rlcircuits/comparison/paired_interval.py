"""Score interval and test of a paired difference of accuracies, for any number of answers to a question.

Every question has a share of right answers before and after. The quantity is the mean over the questions of after −
before, each difference between −1 and 1. A hypothesis "the mean is δ" is tested by

    z(δ) = (mean − δ) / sqrt(variance(δ) / questions)

where the variance is that of the most likely distribution on [−1, 1] whose mean is δ. The interval holds every δ that
the test does not reject. With one answer to each question the differences are −1, 0 and 1, and this is Tango's score
interval (T. Tango, Statistics in Medicine 17, 1998, pages 891 to 908). It keeps its coverage where few questions
change, and an interval from an estimated standard error does not: with no change at all that one has no width. Where
fewer than about ten answers are expected to change, and all in one direction, a 95 % interval still misses up to 7 %
of the time, mostly by saying that they changed more than they do. Non-inferiority is then shown less often than its
level, never more.

With several answers to a question the question stays the unit, and nothing is assumed about how its answers depend on
each other. The most likely distribution has weights c / (N (1 + λ (x − δ))) on the differences x that were seen, and
where these cannot reach the mean δ, the rest of its mass at the end of [−1, 1] towards δ.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import optimize, stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.metrics import Float64Array

_CLOSEST = 1e-12
"""Distance from the mean at which the search for an end starts: at the mean itself the variance may be zero."""


def paired_difference_interval(
    before_shares: Float64Array, after_shares: Float64Array, confidence: float
) -> tuple[float, float]:
    """Return the two-sided score interval of the mean of after − before.

    Its lower end is above −margin exactly where :func:`paired_difference_p` of −margin, ``greater``, is below
    (1 − confidence) / 2. So non-inferiority at level .05 is read off the 90 % interval.

    Args:
        before_shares: each question's share of right answers before, float64 [questions], from 0 to 1.
        after_shares: the same questions' shares after.
        confidence: confidence level, between 0 and 1.

    Raises:
        RLCircuitsError: there are no questions, their numbers differ, a share is not from 0 to 1, or the confidence is
            not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise RLCircuitsError(f"confidence is {confidence}; a number between 0 and 1 is wanted, such as 0.95")
    values, weights, questions = _distinct_differences(before_shares, after_shares)
    mean = float(values @ weights)
    z = float(stats.norm.isf((1 - confidence) / 2))
    # The lower end is the upper end of the differences before − after.
    upper = _upper_end(values, weights, mean, z, questions)
    lower = -_upper_end(-values, weights, -mean, z, questions)
    return lower, upper


def paired_difference_p(
    before_shares: Float64Array,
    after_shares: Float64Array,
    difference: float,
    alternative: Literal["greater", "less"],
) -> float:
    """Return the score test's one-sided p of the hypothesis that the mean of after − before is `difference`.

    Args:
        before_shares: each question's share of right answers before, float64 [questions], from 0 to 1.
        after_shares: the same questions' shares after.
        difference: the hypothesis, between −1 and 1: −margin for non-inferiority.
        alternative: ``greater`` tests for a larger mean, as non-inferiority does; ``less`` for a smaller one.

    Raises:
        RLCircuitsError: there are no questions, their numbers differ, a share is not from 0 to 1, or the difference is
            not between −1 and 1.
    """
    if not -1 < difference < 1:
        raise RLCircuitsError(f"difference is {difference}; a number between -1 and 1 is wanted")
    values, weights, questions = _distinct_differences(before_shares, after_shares)
    variance = constrained_variance(values, weights, difference)
    distance = float(values @ weights) - difference
    # The variance is 0 only where every question's difference is the hypothesis itself.
    z = distance / math.sqrt(variance / questions) if variance else 0.0
    return float(stats.norm.sf(z) if alternative == "greater" else stats.norm.cdf(z))


def constrained_variance(values: Float64Array, weights: Float64Array, mean: float) -> float:
    """Return the variance of the most likely distribution on [−1, 1] with this mean, given what was seen.

    Args:
        values: the distinct differences that were seen, float64 [values], from −1 to 1.
        weights: the share of questions with each, which add up to 1.
        mean: the mean that the distribution must have, from −1 to 1.
    """
    if float(values @ weights) > mean:  # the same, reflected
        return constrained_variance(-values, weights, -mean)
    if mean >= 1:
        return 0.0
    seen = weights > 0
    values, weights = values[seen], weights[seen]
    off = values - mean

    def slope(tilt: float) -> float:
        """Return the derivative of the log likelihood's dual, which falls as the tilt rises."""
        return float(weights @ (off / (1 + tilt * off)))

    # The least tilt at which every point of [−1, 1] has a weight; a difference of 1 that was seen keeps it above that.
    least = -1 / (1 - mean)
    if values.max() < 1 and slope(least) <= 0:
        tilt = least
    else:
        least *= 1 - 1e-15
        tilt = least if slope(least) <= 0 else optimize.brentq(slope, least, 0, xtol=1e-15) if slope(0) < 0 else 0.0
    tilted = weights / (1 + tilt * off)
    at_the_end = max(-float(tilted @ off) / (1 - mean), 0.0)  # so that the mean is met; 1 − sum would round to 0
    return float(tilted @ off**2) + at_the_end * (1 - mean) ** 2


def _upper_end(values: Float64Array, weights: Float64Array, mean: float, z: float, questions: int) -> float:
    """Return the largest mean that the test does not reject."""

    def beyond(hypothesis: float) -> float:
        variance = constrained_variance(values, weights, hypothesis)
        return hypothesis - mean - z * math.sqrt(variance / questions)

    start = mean + _CLOSEST
    return float(optimize.brentq(beyond, start, 1, xtol=1e-12)) if start < 1 else 1.0


def _distinct_differences(before: Float64Array, after: Float64Array) -> tuple[Float64Array, Float64Array, int]:
    """Return the distinct differences, the share of questions with each, and the number of questions."""
    for side, shares in (("before", before), ("after", after)):
        wrong = shares[~((shares >= 0) & (shares <= 1))]
        if wrong.size:
            raise RLCircuitsError(f"the shares of {side} hold {wrong[0]}; shares of right answers are from 0 to 1")
    if before.shape != after.shape or before.ndim != 1 or not before.size:
        raise RLCircuitsError(
            f"the shares of before and after have shapes {before.shape} and {after.shape}; one share for each of the "
            f"same questions is wanted, and one question at least"
        )
    values, counts = np.unique(after - before, return_counts=True)
    return values, counts / before.size, before.size
