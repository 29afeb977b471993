"""How many questions would make a test significant: the part of settling an outcome that is not about an interval.

:func:`rlcircuits.comparison.metric_power.questions_to_settle` is the part that is.
"""

from __future__ import annotations

import math

from scipy import stats

from rlcircuits.comparison.metric_power import SETTLING_POWER


def questions_for_level(p: float, questions: int, level: float, power: float = SETTLING_POWER) -> int | None:
    """Return how many questions would bring a one-sided p below a level, if the true effect is the one seen.

    Normal approximation: the test's statistic grows as the root of the number of questions.

    Args:
        p: what `questions` questions gave, at least `level`.
        questions: number of questions.
        level: the test's one-sided level, below 0.5.
        power: probability of a p below the level.

    Returns:
        The number; None if p speaks for no effect in the test's direction.
    """
    seen = float(stats.norm.isf(p))
    if not seen > 0:
        return None
    return math.ceil(questions * (float(stats.norm.isf(level) + stats.norm.ppf(power)) / seen) ** 2)
