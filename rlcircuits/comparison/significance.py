"""The levels that p is held against, and how p is written: never on another side of a level than it is."""

from __future__ import annotations

import math
from collections.abc import Callable

SIGNIFICANCE_LEVEL = 0.01
"""Level of each metric's one-sided Wilcoxon signed-rank test."""

ACCURACY_LEVEL = 0.05
"""Level of the exact one-sided test for a fall in accuracy: McNemar's, or where questions have several answers each the
sign test on their shares of right ones. Looser than ALPHA, since here a small p is the bad news: the gate should notice
damage early."""


def format_p(p: float) -> str:
    """Write p for a table: two decimals, or one digit and a power of ten where it is small."""
    return _on_its_side(p, lambda more: f"{p:.{2 + more}f}" if p >= SIGNIFICANCE_LEVEL else f"{p:.{more}e}")


def p_in_words(p: float) -> str:
    """Write p for a sentence: two significant digits."""
    return _on_its_side(p, lambda more: f"{p:.{2 + more}g}")


def _on_its_side(p: float, write: Callable[[int], str]) -> str:
    """Write p with as many more digits as it takes to be above, on or below each level as p itself is."""
    more = 0
    while not math.isnan(p) and _sides(float(write(more))) != _sides(p):
        more += 1
    return write(more)


def _sides(p: float) -> list[int]:
    return [(p > level) - (p < level) for level in (SIGNIFICANCE_LEVEL, ACCURACY_LEVEL)]
