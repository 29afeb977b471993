"""The smallest changes that a planned run can detect, from what is known before it runs.

What the output folder holds of the pair is used: before's answers for the rate of right answers, both models' answers
for the share of discordant ones, an earlier comparison for these and for the spread of the metrics. What it does not
hold is assumed, and :class:`Detectable` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.comparison.effects import where_defined
from rlcircuits.comparison.metric_power import smallest_mean_change
from rlcircuits.comparison.power import discordant_if_independent, questions_for_margin, smallest_accuracy_change
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.effects import Effect
    from rlcircuits.release.plan_store import StoredAnswers

TYPICAL_SPREAD: Mapping[str, float] = MappingProxyType({"intensity": 0.307, "complexity": 0.074, "kurtosis": 0.277})
"""Standard deviation of the questions' differences, over before's mean: the median over the shipped pairs.

The 40 pairs range from 0.12 to 0.56, 0.05 to 0.12 and 0.11 to 0.43. They have one answer to a question; several are
taken to change nothing, which is on the safe side. `python -m fixtures.study.spread DIR` prints these numbers."""

TYPICAL_DISCORDANT = 0.52
"""Share of discordant answers over what independent answers give: the median over the shipped pairs.

They range from 0.19 to 0.81. Both checkpoints of a pair are sampled with the same seed, and agree more often than by
chance. The same command prints it."""

ASSUMED_RATE = 0.86
"""Share of right answers that is assumed of a model that has not answered yet."""

MARGIN = 0.02
"""Margin of the non-inferiority test whose number of questions a plan gives."""


@dataclass(frozen=True)
class Detectable:
    """The smallest changes that measuring one pair detects with 80 % power. Shares, not points or percent."""

    asked: int
    """Questions asked."""
    answers: int
    """Answers to each."""
    rate: float
    """Share of right answers before."""
    rate_is_known: bool
    """Whether the rate was measured; if not, it is :data:`ASSUMED_RATE`."""
    discordant: float
    """Share of discordant answers."""
    discordant_is_known: bool
    """Whether it was measured."""
    fall: float | None
    """Smallest fall of accuracy that the exact one-sided test detects; None if it detects none."""
    rise: float | None
    """Smallest rise that it detects."""
    margin_questions: int | None
    """Questions that show an unchanged model to be not inferior by :data:`MARGIN`; None if no number does."""
    compared: int
    """Questions whose metrics are compared, as far as can be told."""
    metrics: Mapping[str, float]
    """Smallest mean change of each metric that the one-sided signed-rank test detects, over before's mean; empty if
    fewer than two questions are compared."""
    spread_is_known: bool
    """Whether the metrics' spread was measured on an earlier run of the pair."""


def detectable_changes(
    asked: int,
    answers: int,
    k: int,
    before: StoredAnswers | None,
    after: StoredAnswers | None,
    earlier: Comparison | None,
    independent: bool = False,
) -> Detectable:
    """Return the smallest changes that a run detects.

    Args:
        asked: number of questions asked.
        answers: number of answers to each.
        k: most questions compared.
        before: answers of before in the store.
        after: answers of after in the store.
        earlier: a comparison of this pair on this question set.
        independent: whether the two models' answers were not sampled with the same seed, as recorded answers.
    """
    ours, theirs = (side.grades() if side else {} for side in (before, after))
    both = [key for key in ours if key in theirs]
    rate = ASSUMED_RATE
    if ours:
        rate = sum(ours.values()) / len(ours)
    elif earlier:
        rate = earlier.accuracy.before
    # A comparison counts questions that changed, which are discordant answers only where there is one to a question.
    countable = earlier if earlier is not None and earlier.n == 1 else None
    if both:
        discordant = sum(ours[key] != theirs[key] for key in both) / len(both)
    elif countable:
        discordant = (countable.accuracy.lost + countable.accuracy.gained) / countable.accuracy.asked
    else:
        discordant = discordant_if_independent(rate, rate) * (1 if independent else TYPICAL_DISCORDANT)
    # Most questions that before answers right can be compared: those that after answers wrong and that have one wrong
    # of several answers nearly cancel.
    passing = _passing_share(earlier) if earlier else rate
    compared = min(k, round(asked * passing))
    spread = TYPICAL_SPREAD
    if earlier:
        spread = {metric: relative_spread(earlier.effects[metric]) for metric in GATE_METRICS}
    known = {metric: value for metric, value in spread.items() if np.isfinite(value)} if compared > 1 else {}
    return Detectable(
        asked=asked,
        answers=answers,
        rate=rate,
        rate_is_known=bool(ours) or earlier is not None,
        discordant=discordant,
        discordant_is_known=bool(both) or countable is not None,
        fall=smallest_accuracy_change(asked, rate, discordant, "down", ACCURACY_LEVEL, answers=answers),
        rise=smallest_accuracy_change(asked, rate, discordant, "up", ACCURACY_LEVEL, answers=answers),
        margin_questions=questions_for_margin(rate, discordant, MARGIN, ACCURACY_LEVEL, answers=answers),
        compared=compared,
        metrics={metric: smallest_mean_change(value, compared, SIGNIFICANCE_LEVEL) for metric, value in known.items()},
        spread_is_known=earlier is not None,
    )


def relative_spread(effect: Effect) -> float:
    """Return the standard deviation of the questions' differences over before's mean; NaN if it is not defined."""
    before, after = where_defined(np.asarray(effect.before_values), np.asarray(effect.after_values))
    difference = after - before
    if difference.size < 2 or not effect.before:
        return float("nan")
    return float(difference.std(ddof=1) / abs(effect.before))


def _passing_share(comparison: Comparison) -> float:
    """Return the share of the questions asked that passed the protocol, before K of them were sampled."""
    left = [count for stage, count in comparison.funnel.items() if stage != "sampled"]
    return left[-1] / left[0]
