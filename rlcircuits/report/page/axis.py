"""Place numbers along an axis: percent of its length, and round numbers for its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "axis_over"]

_STEPS = (1, 2, 2.5, 5, 10)

_EQUAL, _ZERO = 1e-9, 1e-300
"""The share of the largest number below which a range is none, and the number below which that is 0: a margin would be
lost by rounding."""


@dataclass(frozen=True)
class Axis:
    """A range of numbers."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Return where a number lies, from 0 at the low end to 100; numbers beyond an end lie on it."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def place(self, value: float, start: float, end: float) -> float:
        """Return the coordinate of a number, where the axis runs from ``start`` to ``end``."""
        return round(start + (end - start) * self.percent(value) / 100, 1)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers within the range, at most so many."""
        step = _round_up((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{step * each:.12g}") for each in range(first, last + 1)]


def axis_over(values: Iterable[float], *, margin: float = 0.05) -> Axis:
    """Return an axis that holds the finite numbers, with a margin at both ends as a share of their range."""
    found = [value for value in values if math.isfinite(value)]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    largest = max(abs(low), abs(high))
    size = high - low if high - low > _EQUAL * largest else largest
    size = size if size > _ZERO else 1.0
    return Axis(low - margin * size, high + margin * size)


def _round_up(step: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * each for each in _STEPS if power * each >= step * (1 - 1e-9))
