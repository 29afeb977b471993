"""Whether one metric's effect holds, does not hold, or cannot be told: the rule for metrics.

An effect is judged in one direction: up, or down with all signs turned round. Take its mean difference over the
questions with the 95 % interval [low, high], the ``minimum`` (the profile's, times before's mean), and the mean
differences of the noise draws.

1. **does not hold**: the interval lies below the minimum (*negligible*, or the other direction), or below every noise
   draw (*within noise*). Both are evidence against the effect, not a lack of evidence for it.
2. **holds**: p is below the level, and low is above 0 and above every noise draw.
3. **inconclusive**: anything else.

A noise draw that answered too few questions right to be measured can neither be exceeded nor exceed. Where the noise on
one group of tensors alone moves the metric as far as the effect, and that on all the others together does not, then
that group's noise says little about the others' update: *within noise* becomes inconclusive.

For ``same`` the interval, relative to before's mean, is compared with [−bound, bound]: inside it holds (two one-sided
tests of equivalence), outside it does not hold, and across an end it is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcircuits.comparison.metric_power import questions_to_settle
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import Direction, MetricRule

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import ControlDraw, GroupControl
    from rlcircuits.comparison.effects import ControlEffect, Effect

_95_PERCENT = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class MetricOutcome:
    """The outcome of one metric in one direction, or of equivalence."""

    outcome: Outcome
    why: str
    """``as expected``, ``negligible``, ``within noise``, ``the other way``, ``not beyond noise``, ``no clear change``,
    ``same``, ``not the same``, ``not clearly the same``, ``not measured``."""
    settled_by: int | None = None
    """For an inconclusive outcome: the number of compared questions that would settle it at 90 % power, if the true
    effect is the one seen; None if no number would."""
    blinded_by: tuple[str, ...] = ()
    """Groups of tensors whose noise alone moves the metric as far as the effect."""


def judge_metric(
    effect: Effect,
    rule: MetricRule,
    draws: Sequence[ControlDraw] = (),
    groups: Sequence[GroupControl] = (),
) -> MetricOutcome:
    """Judge one metric's effect by the rule of this module.

    Args:
        effect: the effect.
        rule: what is asserted of the metric.
        draws: the draws of the noise control; none if it was not measured.
        groups: the noise on each group of tensors alone, if it was measured.
    """
    if not effect.questions or math.isnan(sum(effect.interval)):
        return MetricOutcome("inconclusive", "not measured")
    if rule.expected == "same":
        return _judge_same(effect, rule)
    noise = [draw.shifts.get(effect.metric) for draw in draws]
    found = judge_direction(effect, rule.expected, rule, [None if each is None else each.difference for each in noise])
    blinding = _blinding(effect, rule.expected, groups) if found.why in ("within noise", "not beyond noise") else ()
    if not blinding:
        return found
    return MetricOutcome("inconclusive", "not beyond noise", found.settled_by, blinding)


def judge_direction(
    effect: Effect | ControlEffect, towards: Direction, rule: MetricRule, noise: Sequence[float | None] = ()
) -> MetricOutcome:
    """Judge an effect in one direction.

    Args:
        effect: the effect.
        towards: the direction.
        rule: the level and the minimum.
        noise: mean difference of each noise draw; None for a draw that could not be measured.
    """
    sign = 1 if towards == "up" else -1
    low, high = sorted(sign * end for end in effect.interval)
    before = abs(effect.difference / effect.change) if effect.change else 0.0
    minimum = rule.minimum * before
    p, other = (effect.p_up, effect.p_down) if towards == "up" else (effect.p_down, effect.p_up)
    measured = [sign * each for each in noise if each is not None]
    largest = math.inf if len(measured) < len(noise) else max(measured, default=-math.inf)
    if high < minimum:
        return MetricOutcome("does not hold", "the other way" if other < rule.level and high < 0 else "negligible")
    if noise and len(measured) == len(noise) and high < min(measured):
        return MetricOutcome("does not hold", "within noise")
    if p < rule.level and low > 0 and low > largest:
        return MetricOutcome("holds", "as expected")
    why = "not beyond noise" if p < rule.level and low > 0 else "no clear change"
    boundaries = [minimum, max(0.0, largest)] if math.isfinite(largest) or not noise else []
    mean, questions = sign * effect.difference, getattr(effect, "questions", 0)
    settled = None
    if boundaries and questions:
        settled = questions_to_settle(mean, (high - low) / (2 * _95_PERCENT), questions, _deciding(mean, boundaries))
    return MetricOutcome("inconclusive", why, settled)


def _deciding(mean: float, boundaries: Sequence[float]) -> list[float]:
    """Return the boundary that an interval around the mean must leave behind.

    Above the larger one the effect would hold, so its interval must lie above it. Below it, more questions can only
    show that the effect is below the minimum.
    """
    return [max(boundaries)] if mean > max(boundaries) else [boundaries[0]]


def _judge_same(effect: Effect, rule: MetricRule) -> MetricOutcome:
    assert rule.bound is not None
    bound = rule.bound * abs(effect.before)
    low, high = effect.interval
    if -bound < low and high < bound:
        return MetricOutcome("holds", "same")
    if low > bound or high < -bound:
        return MetricOutcome("does not hold", "not the same")
    error = (high - low) / (2 * _95_PERCENT)
    settled = questions_to_settle(effect.difference, error, effect.questions, (-bound, bound))
    return MetricOutcome("inconclusive", "not clearly the same", settled)


def _blinding(effect: Effect, towards: Direction, groups: Sequence[GroupControl]) -> tuple[str, ...]:
    """Return the groups whose noise alone moves the metric as far as the effect, if the others together do not."""
    sign = 1 if towards == "up" else -1
    low = min(sign * end for end in effect.interval)
    shifts = {
        group.group: math.inf if not group.shifts else sign * group.shifts[effect.metric].difference for group in groups
    }
    as_far = {name for name, shift in shifts.items() if shift >= low}
    others = sum(max(shift, 0.0) for name, shift in shifts.items() if name not in as_far)
    return tuple(name for name in shifts if name in as_far) if len(as_far) == 1 and low > max(others, 0.0) else ()
