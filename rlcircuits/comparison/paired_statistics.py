"""Test and size a paired difference: Wilcoxon's signed-rank test and a bootstrap interval of the mean.

Normal-theory error bars need hundreds of questions or bell-shaped differences. The signed-rank test needs neither:
it is calibrated at a few dozen questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlcircuits.graph.metrics import Float64Array

Alternative = Literal["two-sided", "greater", "less"]

CONFIDENCE = 0.95
"""Confidence level of the bootstrap interval."""

RESAMPLES = 9999
"""Bootstrap resamples."""

BOOTSTRAP_SEED = 42
"""Fixed, so that the interval is the same from run to run."""

EXACT_UP_TO = 500
"""Most non-zero differences for which the signed-rank test is exact."""

_RESAMPLES_AT_A_TIME = 200  # over all metrics together; larger batches fall out of the CPU's cache

_MOST_DRAWS_KEPT = 2**23
"""Entries of the largest table of draws that is kept, 16 MB: 838 questions. Longer arrays are drawn anew each time."""


def signed_rank(difference: Float64Array, alternative: Alternative) -> float:
    """Return the p-value of Wilcoxon's signed-rank test, with zeros ranked (Pratt); 1 if all differences are zero.

    The test is exact, ties and zeros included, for up to :data:`EXACT_UP_TO` non-zero differences: under the null
    hypothesis every assignment of signs to the given magnitudes is equally likely. scipy's exact test supports
    neither zeros nor ties, and its normal approximation is far off where most differences are zero. Above that number
    this function returns scipy's approximation.

    Args:
        difference: paired differences, float64 [K].
        alternative: ``greater`` tests for positive differences, ``less`` for negative ones.
    """
    changed = difference != 0
    if not changed.any():
        return 1.0
    if np.count_nonzero(changed) > EXACT_UP_TO:
        return float(stats.wilcoxon(difference, zero_method="pratt", alternative=alternative).pvalue)
    # Ties have half ranks, so the ranks are doubled; dividing by their common divisor keeps the table of sums small.
    doubled = np.rint(2 * stats.rankdata(np.abs(difference))[changed]).astype(np.int64)
    ranks = doubled // np.gcd.reduce(doubled)
    positive = int(ranks[difference[changed] > 0].sum())
    probabilities = _rank_sum_distribution(tuple(sorted(ranks.tolist())))
    less, greater = (min(1.0, float(side.sum())) for side in (probabilities[: positive + 1], probabilities[positive:]))
    return {"less": less, "greater": greater, "two-sided": min(1.0, 2 * min(less, greater))}[alternative]


def signed_rank_columns(difference: Float64Array) -> Float64Array:
    """Return the two-sided p-value of each column, as :func:`signed_rank` does, [columns].

    Columns without zeros and ties have the same ranks, so that one table of sums serves them all. The others, which
    are few among numbers that were measured, are tested one by one.

    Args:
        difference: paired differences, float64 [K, columns].
    """
    result = np.ones(difference.shape[1])
    if not len(difference) or len(difference) > EXACT_UP_TO:
        each = list(range(difference.shape[1]))
    else:
        magnitude = np.abs(difference)
        order = np.argsort(magnitude, axis=0)
        ordered = np.take_along_axis(magnitude, order, axis=0)
        plain = (ordered[0] > 0) & (ordered[1:] > ordered[:-1]).all(axis=0)
        # The sum of the ranks of the positive differences.
        positive = np.take_along_axis(difference > 0, order, axis=0)
        sums = np.arange(1, len(difference) + 1) @ positive
        probabilities = _rank_sum_distribution(tuple(range(1, len(difference) + 1)))
        less, greater = np.cumsum(probabilities), np.cumsum(probabilities[::-1])[::-1]
        result[plain] = np.minimum(1, 2 * np.minimum(less[sums[plain]], greater[sums[plain]]))
        each = np.flatnonzero(~plain & magnitude.any(axis=0)).tolist()
    for column in each:
        result[column] = signed_rank(difference[:, column], "two-sided")
    return result


@lru_cache(maxsize=16)
def _rank_sum_distribution(ranks: tuple[int, ...]) -> Float64Array:
    """Return the probability of each sum from 0 to sum(ranks), where each rank counts with probability 1/2."""
    probabilities = np.zeros(sum(ranks) + 1)
    probabilities[0] = 1.0
    largest = 0
    for rank in ranks:
        without = 0.5 * probabilities[: largest + 1]
        probabilities[: largest + 1] = without
        probabilities[rank : largest + rank + 1] += without
        largest += rank
    return probabilities


def mean_intervals(differences: Mapping[str, Float64Array]) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval (BCa) of the mean of each array.

    An array whose numbers are all equal has that number as both ends; an empty array has NaN.

    What is resampled is each number's position between the smallest and the largest, from 0 to 1. That changes the
    result by rounding only, and the squares and cubes of the method can neither vanish, where numbers differ in their
    last digit, nor overflow. Arrays of one length are resampled together, with the same draws: drawing takes most of a
    bootstrap's time. An array's interval does not depend on the other arrays.

    Args:
        differences: by metric, float64 [K]; K may differ between metrics.
    """
    found: dict[str, tuple[float, float]] = {}
    by_length: dict[int, list[str]] = {}
    for metric, values in differences.items():
        if not values.size:
            found[metric] = (float("nan"), float("nan"))
        elif values.min() == values.max():
            found[metric] = (float(values[0]), float(values[0]))
        else:
            by_length.setdefault(values.size, []).append(metric)
    for together in by_length.values():
        values = np.stack([differences[metric] for metric in together])
        _, exponent = np.frexp(np.abs(values).max(axis=-1))
        scaled = np.ldexp(values, -exponent[:, None])  # magnitudes of at most 1; exact, being a power of two
        lowest, spread = scaled.min(axis=-1), np.ptp(scaled, axis=-1)
        positions = (scaled - lowest[:, None]) / spread[:, None]
        result: Any = stats.bootstrap(
            (positions,), np.mean, axis=-1, confidence_level=CONFIDENCE, method="BCa", **_resamples_of(positions)
        )
        low, high = (np.ldexp(lowest + spread * end, exponent) for end in result.confidence_interval)
        found |= {metric: (float(low[i]), float(high[i])) for i, metric in enumerate(together)}
    return found


def _resamples_of(values: Float64Array) -> dict[str, Any]:
    """Return how scipy's bootstrap comes by its resamples' means, as its arguments.

    The draws depend on the seed and the number of values alone. So those of short arrays are kept for the next call,
    which has as many values wherever a pair's questions are compared with another control, and scipy is given the means
    that it would compute. (A single array's it would sum in another order.)

    Args:
        values: float64 [metrics, K].
    """
    count = values.shape[-1]
    if len(values) == 1 or count * RESAMPLES > _MOST_DRAWS_KEPT:
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        return {"n_resamples": RESAMPLES, "batch": _RESAMPLES_AT_A_TIME, "rng": rng}
    by_value = np.ascontiguousarray(values.T)
    parts = np.split(_draws(count), range(_RESAMPLES_AT_A_TIME, RESAMPLES, _RESAMPLES_AT_A_TIME), axis=1)
    # Summed value by value, the order in which scipy's resamples are summed: the means are the same bit by bit.
    means = np.concatenate([by_value.take(part, axis=0).sum(axis=0) for part in parts]).T / count
    return {"n_resamples": 0, "bootstrap_result": SimpleNamespace(bootstrap_distribution=means)}


@lru_cache(maxsize=2)
def _draws(count: int) -> NDArray[np.uint16]:
    """Return which of `count` values each resample has, [count, resamples]: scipy's own draws."""
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(0, count, (RESAMPLES, count))
    return np.ascontiguousarray(drawn.T.astype(np.uint16))
