"""How many questions would settle an inconclusive outcome, for intervals and for p-values.

:func:`rlcircuits.comparison.metric_power.questions_to_settle` does the same from a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from scipy import stats

from rlcircuits.comparison.metric_power import SETTLING_POWER, questions_to_settle
from rlcircuits.comparison.power import MOST_QUESTIONS


def questions_for_level(p: float, questions: int, level: float, power: float = SETTLING_POWER) -> int | None:
    """Return how many questions would bring a one-sided p below a level, if the true effect is the one seen.

    Normal approximation: the test's statistic grows as the root of the number of questions.

    Args:
        p: what `questions` questions gave, at least `level`.
        questions: number of questions.
        level: the test's one-sided level, below 0.5.
        power: probability of a p below the level.

    Returns:
        The number; None if p speaks for no effect in the test's direction, or for so small a one that more than a
        billion questions are needed.
    """
    seen = float(stats.norm.isf(p))
    if not seen > 0:
        return None
    wanted = float(stats.norm.isf(level) + stats.norm.ppf(power))
    if wanted > seen * math.sqrt(MOST_QUESTIONS / questions):
        return None
    return math.ceil(questions * (wanted / seen) ** 2)


def questions_for_interval(
    mean: float, interval: tuple[float, float], questions: int, boundaries: Collection[float], confidence: float
) -> int | None:
    """Return how many questions would bring an interval clear of every boundary, if the true mean is the one seen.

    An interval need not be symmetric. Its width counts on the sides where a boundary is.

    Args:
        mean: the mean that was seen.
        interval: its interval, in the same unit.
        questions: number of questions it was seen on.
        boundaries: the values that decide.
        confidence: confidence level of the interval.

    Returns:
        The number; None if no number would.
    """
    low, high = interval
    widths = [mean - low if boundary < mean else high - mean for boundary in boundaries]
    error = max(0.0, *widths) / float(stats.norm.isf((1 - confidence) / 2))
    return questions_to_settle(mean, error, questions, boundaries, confidence)
