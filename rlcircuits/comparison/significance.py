"""The significance levels, and how a p-value is written: rounding never moves it across a level."""

from __future__ import annotations

import math
from collections.abc import Callable

SIGNIFICANCE_LEVEL = 0.01
"""Level of each metric's one-sided Wilcoxon signed-rank test."""

ACCURACY_LEVEL = 0.05
"""Level of the exact one-sided test for a fall in accuracy.

The level is looser than :data:`SIGNIFICANCE_LEVEL`, since a small p is bad news here: the gate should notice damage
early."""


def format_p(p: float) -> str:
    """Write p for a table: with two decimals, or as one digit and a power of ten below :data:`SIGNIFICANCE_LEVEL`."""
    return _on_its_side(p, lambda more: f"{p:.{2 + more}f}" if p >= SIGNIFICANCE_LEVEL else f"{p:.{more}e}")


def p_in_words(p: float) -> str:
    """Write p for a sentence, with two significant digits."""
    return _on_its_side(p, lambda more: f"{p:.{2 + more}g}")


def _on_its_side(p: float, write: Callable[[int], str]) -> str:
    """Write p with the fewest additional digits that keep it above, on or below each level, as p itself is."""
    more = 0
    while not math.isnan(p) and _sides(float(write(more))) != _sides(p):
        more += 1
    return write(more)


def _sides(p: float) -> list[int]:
    return [(p > level) - (p < level) for level in (SIGNIFICANCE_LEVEL, ACCURACY_LEVEL)]
