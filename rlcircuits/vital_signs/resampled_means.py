"""Means of two quantities over resampled questions, for the interval of their ratio."""

from __future__ import annotations

import numpy as np

from rlcircuits.comparison.paired_statistics import BOOTSTRAP_SEED, RESAMPLES
from rlcircuits.graph.metrics import Float64Array

_AT_A_TIME = 500  # resamples: of a few thousand questions they fit in memory


def resampled_means(first: Float64Array, second: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return both means over each bootstrap resample of the questions, float64 [resamples] each.

    Args:
        first: one number a question, float64 [K].
        second: another number of the same questions, float64 [K]; both are resampled together.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.empty((2, RESAMPLES))
    for start in range(0, RESAMPLES, _AT_A_TIME):
        drawn = rng.integers(0, len(first), (min(_AT_A_TIME, RESAMPLES - start), len(first)))
        means[:, start : start + len(drawn)] = first[drawn].mean(-1), second[drawn].mean(-1)
    return means[0], means[1]
