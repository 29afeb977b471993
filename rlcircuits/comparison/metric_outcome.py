"""Whether one metric's effect holds, does not hold, or cannot be told: the rule for metrics.

An effect is judged in one direction: up, or down with all signs turned round. Take its mean difference over the
questions with the 95 % interval [low, high], the ``minimum`` (the profile's, times before's mean), and the mean
differences of the noise draws, of which the largest times :data:`NOISE_MARGIN` is the limit of noise.

1. **does not hold**: the interval lies below the minimum (*negligible*, or the other direction), or below every noise
   draw (*within noise*). Both are evidence against the effect, not a lack of evidence for it.
2. **holds**: p is below the level, and low is above 0 and the limit of noise, and not below the minimum.
3. **inconclusive**: anything else.

So what holds and what does not hold are a whole interval apart, and two runs of one effect rarely contradict each
other. If an effect above 0 were enough, one between 0 and the minimum would hold or not hold by chance.

Each draw has after's readout, and noise that reproduces whatever of the update only rescales
(:mod:`rlcircuits.checkpoints.noise`). An effect as large as noise makes exceeds a few draws by chance, however many
questions there are. The margin is for that: damage that is built to look like training goes a little beyond noise of
its own size, and training far beyond.

No effect exceeds a noise draw on which the metric could not be measured (too few right answers), and none lies below
it. Where the noise on one group of tensors alone moves the metric as far as the effect, and that on all the others
together does not, then that group's noise says little about the others' update: *within noise* becomes inconclusive.

With a **supervised control** (:mod:`rlcircuits.comparison.supervised_control`) an effect counts only beyond it. The
interval of the difference of differences must lie above 0 for the effect to hold; if it lies below 0 the effect does
not hold (*within supervised training*); else it is inconclusive (*not beyond supervised training*).

For ``same`` the interval is compared with [−bound, bound], the bound times before's mean: inside it or on its ends
holds (two one-sided tests of equivalence), outside it does not hold, and across an end it is inconclusive. Controls
have no part in it.

Where before's mean is 0 no change is relative to it, so that the minimum and the bound are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rlcircuits.comparison.effects import ControlEffect, Effect
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.comparison.profiles import Direction, MetricRule
from rlcircuits.comparison.settling import questions_for_interval, questions_for_level

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import BeyondSupervised, Comparison, ControlDraw, GroupControl


NOISE_MARGIN = 1.25
"""Factor by which an effect must exceed the largest noise draw."""


@dataclass(frozen=True)
class MetricOutcome:
    """The outcome of one metric in one direction, or of equivalence."""

    outcome: Outcome
    why: str
    """``as expected``, ``negligible``, ``within noise``, ``the other way``, ``not beyond noise``,
    ``may be negligible``, ``no clear change``, ``within supervised training``, ``not beyond supervised training``,
    ``same``, ``not the same``, ``not clearly the same``, ``not measured``."""
    settled_by: int | None = None
    """For an inconclusive outcome: the number of compared questions that would settle it at 90 % power, if the true
    effect is the one seen; None if no number would, or none is known."""
    blinded_by: tuple[str, ...] = ()
    """Groups of tensors whose noise alone moves the metric as far as the effect."""


def judge_comparison_metric(comparison: Comparison, metric: str, rule: MetricRule) -> MetricOutcome:
    """Judge one of a comparison's metrics by the rule of this module, with all the controls that were measured."""
    return judge_metric(
        comparison.effects[metric],
        rule,
        comparison.controls,
        comparison.group_controls,
        comparison.beyond_supervised(metric),
    )


def judge_metric(
    effect: Effect,
    rule: MetricRule,
    draws: Sequence[ControlDraw] = (),
    groups: Sequence[GroupControl] = (),
    beyond: BeyondSupervised | None = None,
) -> MetricOutcome:
    """Judge one metric's effect by the rule of this module.

    Args:
        effect: the effect.
        rule: what is asserted of the metric.
        draws: the draws of the noise control; none if it was not measured.
        groups: the noise on each group of tensors alone, if it was measured.
        beyond: the effect beyond that of the supervised control; None without such a control.
    """
    if not effect.questions or math.isnan(sum(effect.interval)):
        return MetricOutcome("inconclusive", "not measured")
    if rule.expected == "same":
        return _judge_same(effect, rule)
    found = judge_direction(effect, rule.expected, rule, noise_shifts(draws, effect.metric))
    blinding = _blinding(effect, rule.expected, groups) if found.why in ("within noise", "not beyond noise") else ()
    if blinding:
        found = MetricOutcome("inconclusive", "not beyond noise", found.settled_by, blinding)
    return found if beyond is None else _beyond_too(found, beyond, rule.expected, effect.questions)


def judge_direction(
    effect: Effect | ControlEffect, towards: Direction, rule: MetricRule, noise: Sequence[float | None] = ()
) -> MetricOutcome:
    """Judge an effect in one direction.

    Args:
        effect: the effect.
        towards: the direction.
        rule: the level and the minimum.
        noise: mean difference of each noise draw; None or NaN for a draw that could not be measured.
    """
    sign = 1 if towards == "up" else -1
    low, high = sorted(sign * end for end in effect.interval)
    minimum = rule.minimum * _size_before(effect)
    p = effect.p_up if towards == "up" else effect.p_down
    least_noise, noise_limit = noise_range(noise, towards)
    if high < minimum:
        return MetricOutcome("does not hold", "the other way" if high < 0 else "negligible")
    if high < least_noise:
        return MetricOutcome("does not hold", "within noise")
    if p < rule.level and low > max(0.0, noise_limit) and low >= minimum:
        return MetricOutcome("holds", "as expected")
    why = "no clear change"
    if p < rule.level and low > 0:
        why = "may be negligible" if low > noise_limit else "not beyond noise"
    return MetricOutcome(
        "inconclusive",
        why,
        _settled(effect, sign, p, rule.level, below=max(minimum, least_noise), above=max(minimum, noise_limit)),
    )


def noise_shifts(draws: Sequence[ControlDraw], metric: str) -> list[float | None]:
    """Return a metric's mean difference under each noise draw; None or NaN for a draw that could not be measured."""
    shifts = [draw.shifts.get(metric) for draw in draws]
    return [None if shift is None else shift.difference for shift in shifts]


def noise_range(noise: Sequence[float | None], towards: Direction) -> tuple[float, float]:
    """Return the least shift by a noise draw and the limit of noise, in a direction: down with its sign turned round.

    Without noise both are −∞. If a draw could not be measured they are −∞ and ∞, so that no effect exceeds all draws
    and none lies below all of them.
    """
    sign = 1 if towards == "up" else -1
    measured = [sign * each for each in noise if each is not None and not math.isnan(each)]
    if len(measured) < len(noise):
        return -math.inf, math.inf
    most = max(measured, default=-math.inf)
    return min(measured, default=-math.inf), most * (NOISE_MARGIN if most > 0 else 1)


def _beyond_too(found: MetricOutcome, beyond: BeyondSupervised, towards: Direction, compared: int) -> MetricOutcome:
    """Return the outcome of an effect that must also lie beyond that of the supervised control.

    Args:
        found: the outcome without the supervised control.
        beyond: the difference of differences.
        towards: the asserted direction.
        compared: number of questions of the effect, which has those of the difference and more.
    """
    sign = 1 if towards == "up" else -1
    low, high = sorted(sign * end for end in beyond.interval)
    if found.outcome == "does not hold" or low > 0:
        return found
    if high < 0:
        return MetricOutcome("does not hold", "within supervised training")
    mean, settled = sign * beyond.difference, None
    if beyond.questions and not math.isnan(low + high):
        settled = questions_for_interval(mean, (low, high), beyond.questions, [0.0], CONFIDENCE)
    if settled is not None:
        settled = math.ceil(settled * compared / beyond.questions)
    if found.outcome == "holds":
        return replace(found, outcome="inconclusive", why="not beyond supervised training", settled_by=settled)
    if mean < 0:  # more questions would rule it out, whatever the effect is
        return replace(found, settled_by=settled)
    both = None if settled is None or found.settled_by is None else max(settled, found.settled_by)
    return replace(found, settled_by=both)


def _size_before(effect: Effect | ControlEffect) -> float:
    """Return the magnitude of before's mean; 0 where a control's effect does not tell."""
    if isinstance(effect, Effect):
        return abs(effect.before)
    size = effect.difference / effect.change if effect.change else 0.0
    return 0.0 if math.isnan(size) else size


def _settled(
    effect: Effect | ControlEffect, sign: int, p: float, level: float, *, below: float, above: float
) -> int | None:
    """Return how many questions would settle an inconclusive effect, if the true one is the one seen.

    With more questions an effect smaller than `below` would not hold, and one larger than `above` would. One between
    the two stays inconclusive.
    """
    if not isinstance(effect, Effect):
        return None
    mean, questions = sign * effect.difference, effect.questions
    low, high = sorted(sign * end for end in effect.interval)
    if mean < below:
        return questions_for_interval(mean, (low, high), questions, [below], CONFIDENCE)
    if not mean > above:
        return None
    needed = [questions_for_interval(mean, (low, high), questions, [above], CONFIDENCE)]
    if p >= level:
        needed.append(questions_for_level(p, questions, level))
    return max((each for each in needed if each is not None), default=None) if None not in needed else None


def _judge_same(effect: Effect, rule: MetricRule) -> MetricOutcome:
    assert rule.bound is not None
    bound = rule.bound * abs(effect.before)
    low, high = effect.interval
    if -bound <= low and high <= bound:
        return MetricOutcome("holds", "same")
    if low > bound or high < -bound:
        return MetricOutcome("does not hold", "not the same")
    settled = questions_for_interval(effect.difference, effect.interval, effect.questions, (-bound, bound), CONFIDENCE)
    return MetricOutcome("inconclusive", "not clearly the same", settled)


def _blinding(effect: Effect, towards: Direction, groups: Sequence[GroupControl]) -> tuple[str, ...]:
    """Return the groups whose noise alone moves the metric as far as the effect, if the others together do not."""
    sign = 1 if towards == "up" else -1
    low = min(sign * end for end in effect.interval)
    shifts = {group.group: math.inf for group in groups}  # one that could not be measured may move it as far
    for group in groups:
        shift = group.shifts.get(effect.metric)
        if shift is not None and not math.isnan(shift.difference):
            shifts[group.group] = sign * shift.difference
    as_far = {name for name, shift in shifts.items() if shift >= low}
    others = sum(max(shift, 0.0) for name, shift in shifts.items() if name not in as_far)
    return tuple(name for name in shifts if name in as_far) if len(as_far) == 1 and low > max(others, 0.0) else ()
