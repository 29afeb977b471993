"""The verdict: whether a comparison shows what its kind of training should do to the metrics.

The rule was fixed before any pair was measured.

**When an effect counts.** A metric's effect counts in a direction, up or down, if both hold:

1. It is significant. Wilcoxon's signed-rank test on the questions' paired differences (after minus before), one-sided
   in that direction, gives p < :data:`~rlcircuits.comparison.significance.SIGNIFICANCE_LEVEL`.
2. It exceeds the noise control. A draw of the control is the base plus random noise that has, tensor by tensor, the
   norm of the training's update (:mod:`rlcircuits.checkpoints.noise`). Take the 95 % interval of the pair's mean
   difference, and of it the end nearer to zero. That end must lie, in the effect's direction, beyond the mean
   difference of *every* draw. A draw with too few right answers to be measured cannot be exceeded.

If no control was measured, only the first condition applies, and the verdict says ``no control``.

**What a profile asserts** (:data:`~rlcircuits.comparison.profiles.PROFILES`):

- ``online-rl`` (trained on the reward of its own samples: GRPO, PPO, …): all three metrics count, intensity and
  complexity up, kurtosis down. These are the directions that arXiv 2509.21044 reports.
- ``preference`` (DPO, …) and ``rejection`` (trained on its own right answers): nothing. Directions are reported only.
- ``not-rl`` (supervised training, noise): not all three metrics count in online RL's directions.

Every profile also asserts that accuracy did not fall: the exact one-sided test for a fall must not give
p < :data:`~rlcircuits.comparison.significance.ACCURACY_LEVEL`. A lower accuracy without that is ``no clear fall``.

**Why the level is not divided by three.** ``online-rl`` holds only if all three metrics count. That is an
intersection-union test, whose level is at most that of each single test, so no correction is needed.

Raw intensity follows the loss: a model that is surprised more has larger gradients. Every explanation therefore shows
the loss and the accuracy beside the metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.explanations import explain_accuracy, explain_effect, explain_not_online_rl
from rlcircuits.comparison.profiles import (
    ACCURACY,
    GATE_METRICS,
    NOT_ONLINE_RL,
    ONLINE_RL,
    Direction,
    Profile,
    profile_named,
)
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL, p_in_words

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison, ControlDraw
    from rlcircuits.comparison.effects import ControlEffect, Effect


@dataclass(frozen=True)
class Finding:
    """What a verdict says about one measure."""

    measure: str
    """A metric's name, ``accuracy`` or ``not-online-rl``."""
    expected: Direction | None
    """None if no direction is asserted."""
    p: float
    """For a metric, the one-sided p of the asserted direction, or the two-sided p if the direction is only reported;
    for accuracy, the p of a fall; for ``not-online-rl``, the largest one-sided p in online RL's three directions."""
    holds: bool | None
    """None if nothing is asserted."""
    words: str
    """``up as expected``, ``no clear change, expected up``, ``down (reported)``, …"""
    message: str = field(repr=False)
    """The numbers behind the finding, as a failed test shows them."""

    def __repr__(self) -> str:
        return short_repr(self, self.measure, self.words, f"p = {p_in_words(self.p)}")


@dataclass(frozen=True)
class Verdict:
    """Whether a comparison shows what its profile asserts."""

    profile: Profile
    findings: Mapping[str, Finding]
    """The findings on the three metrics, by metric."""
    accuracy: Finding
    not_online_rl: Finding | None
    """None if the profile does not assert it."""

    def __repr__(self) -> str:
        return short_repr(self, self.words, f"profile {self.profile.name}")

    @property
    def all_findings(self) -> Mapping[str, Finding]:
        """Return every finding by measure, in the order of :attr:`Profile.measures`."""
        last = (self.accuracy, *([self.not_online_rl] if self.not_online_rl else []))
        return {**self.findings, **{finding.measure: finding for finding in last}}

    @property
    def failed(self) -> tuple[str, ...]:
        """Return the measures whose assertion does not hold."""
        return tuple(measure for measure, finding in self.all_findings.items() if finding.holds is False)

    @property
    def holds(self) -> bool:
        """Return whether every assertion holds."""
        return not self.failed

    @property
    def words(self) -> str:
        """Return the verdict in words: ``holds``, or ``does not hold: complexity, accuracy``."""
        return f"does not hold: {', '.join(self.failed)}" if self.failed else "holds"


@validate_arguments
def judge(comparison: Comparison) -> Verdict:
    """Judge a comparison by its profile.

    Raises:
        RLCircuitsError: the comparison names an unknown profile.
    """
    profile = profile_named(comparison.profile)
    return Verdict(
        profile=profile,
        findings={metric: _judge_effect(comparison, metric, profile.expected.get(metric)) for metric in GATE_METRICS},
        accuracy=_judge_accuracy(comparison),
        not_online_rl=_judge_not_online_rl(comparison) if profile.not_online_rl else None,
    )


def direction(effect: Effect | ControlEffect) -> Direction | None:
    """Return the direction in which an effect is significant, or None."""
    if effect.p_up < SIGNIFICANCE_LEVEL:
        return "up"
    return "down" if effect.p_down < SIGNIFICANCE_LEVEL else None


def exceeds_control(comparison: Comparison, metric: str, towards: Direction) -> bool | None:
    """Return whether a metric's effect exceeds every draw of the noise control in this direction; None without one."""
    if not comparison.controls:
        return None
    return _exceeds(comparison.effects[metric], comparison.controls, metric, towards)


def counts(comparison: Comparison, metric: str, towards: Direction) -> bool:
    """Return whether a metric's effect counts in this direction, by the rule of this module."""
    return (
        direction(comparison.effects[metric]) == towards and exceeds_control(comparison, metric, towards) is not False
    )


@validate_arguments
def reads_as_online_rl(comparison: Comparison) -> bool:
    """Return whether all three metrics count in online RL's directions."""
    return all(counts(comparison, metric, towards) for metric, towards in ONLINE_RL.items())


def noise_reads_as_online_rl(comparison: Comparison, draw: ControlDraw) -> bool:
    """Return whether a noise draw looks like online RL when it is judged like a pair, the other draws its control."""
    others = [control for control in comparison.controls if control.draw != draw.draw]
    return bool(draw.shifts) and all(
        direction(draw.shifts[metric]) == towards and _exceeds(draw.shifts[metric], others, metric, towards)
        for metric, towards in ONLINE_RL.items()
    )


def _exceeds(effect: Effect | ControlEffect, draws: Sequence[ControlDraw], metric: str, towards: Direction) -> bool:
    """Return whether the interval's end nearer to zero lies beyond the mean difference of every draw."""
    low, high = effect.interval
    differences = [draw.shifts[metric].difference for draw in draws if draw.shifts]
    if len(differences) < len(draws):
        return False
    if towards == "up":
        return all(low > difference for difference in differences)
    return all(high < difference for difference in differences)


def _judge_effect(comparison: Comparison, metric: str, expected: Direction | None) -> Finding:
    effect = comparison.effects[metric]
    went = direction(effect)
    exceeds = exceeds_control(comparison, metric, went) if went else None
    seen: str = went or "no clear change"
    if exceeds is False:
        seen = f"{seen}, not beyond noise"
    if expected is None:
        holds, words = None, f"{seen} (reported)"
    elif went != expected:
        holds, words = False, f"{seen}, expected {expected}"
    elif exceeds is False:
        holds, words = False, seen
    else:
        holds, words = True, f"{seen} as expected" + (", no control" if exceeds is None else "")
    p = {"up": effect.p_up, "down": effect.p_down, None: effect.p_two_sided}[expected]
    return Finding(metric, expected, p, holds, words, explain_effect(comparison, metric, expected, p, words))


def _judge_accuracy(comparison: Comparison) -> Finding:
    effect = comparison.accuracy
    holds = not effect.p_fall < ACCURACY_LEVEL
    words = "fell" if not holds else "no clear fall" if effect.after < effect.before else "did not fall"
    return Finding(ACCURACY, None, effect.p_fall, holds, words, explain_accuracy(comparison, words))


def _judge_not_online_rl(comparison: Comparison) -> Finding:
    counted = {metric: counts(comparison, metric, towards) for metric, towards in ONLINE_RL.items()}
    holds = not all(counted.values())
    words = "not read as online RL" if holds else "read as online RL"
    effects = comparison.effects
    p = {
        metric: effects[metric].p_up if towards == "up" else effects[metric].p_down
        for metric, towards in ONLINE_RL.items()
    }
    message = explain_not_online_rl(comparison, counted, p, words)
    return Finding(NOT_ONLINE_RL, None, max(p.values()), holds, words, message)
