"""The p-value of the evidence that a true value lies beyond a boundary, from the value's estimate and interval.

It is the level at which the interval's nearer end would reach the boundary, if it widened as a normal distribution's
does.
"""

from __future__ import annotations

from scipy import stats


def p_below(estimate: float, interval: tuple[float, float], boundary: float, confidence: float) -> float:
    """Return the one-sided p of the evidence that the true value lies below the boundary.

    Args:
        estimate: the value that was found.
        interval: its interval.
        boundary: what the true value may lie below.
        confidence: the interval's level of confidence, such as 0.95.
    """
    low, high = interval
    half = high - estimate if estimate <= boundary else estimate - low
    distance = boundary - estimate
    if not half > 0:
        return float(distance <= 0)
    return float(stats.norm.sf(stats.norm.isf((1 - confidence) / 2) * distance / half))


def p_above(estimate: float, interval: tuple[float, float], boundary: float, confidence: float) -> float:
    """Return the same for above the boundary."""
    low, high = interval
    return p_below(-estimate, (-high, -low), -boundary, confidence)
