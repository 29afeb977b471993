"""What a kind of post-training should do to the metrics, and whether a comparison shows it.

One table, :data:`PROFILES`, says which directions are asserted for which algorithm. The asserted directions
are those that arXiv 2509.21044 reports for online RL; for everything else the directions are reported only.

The rule, fixed in advance: a metric's effect **counts** in a direction when

1. Wilcoxon's signed-rank test on the questions' paired differences, one-sided in that direction, gives
   p < :data:`~rlcircuits.comparison.significance.SIGNIFICANCE_LEVEL`; and
2. it exceeds the matched control: the base with random noise of the update's norm, tensor by tensor, some
   draws of it (``checkpoints/noise.py``). It exceeds it when that end of the 95 % interval of the pair's mean
   difference which is nearer to zero lies, in that direction, beyond the mean difference of *every* draw.
   A draw that answered too few of the questions right to be measured cannot be exceeded.

Where no control was measured only the first is asked for, and the verdict says ``no control``.

Online RL (``online-rl``) is held to all three metrics at once. Each is tested at its full level, so this is an
intersection-union test, whose own level is at most ALPHA: the three need no correction for being three. A
``control`` (supervised training) is held to the opposite: not all three may count. ``preference`` and
``rejection`` are reported. Accuracy must not fall, whatever the profile; a fall that its test does not make out is
called ``no clear fall`` and fails nothing.

Raw intensity follows surprise, so that a verdict always shows the loss and the accuracy beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.reprs import short_repr
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
    from rlcircuits.comparison.effects import AccuracyEffect, ControlEffect, Effect


@dataclass(frozen=True)
class Finding:
    """One line of a verdict."""

    measure: str
    """A metric's name, ``accuracy`` or ``not-online-rl``."""
    expected: Direction | None
    """None where no direction is asserted."""
    p: float
    """One-sided for an asserted direction, two-sided for a reported one; for accuracy that of a fall; for
    ``not-online-rl`` the largest of the three one-sided ones in online RL's directions."""
    holds: bool | None
    """None where nothing was asserted."""
    words: str
    """``up as expected``, ``no clear change, expected up``, ``down (reported)``, …"""
    message: str = field(repr=False)
    """The numbers, for whoever reads the failed test."""

    def __repr__(self) -> str:
        return short_repr(self, self.measure, self.words, f"p = {p_in_words(self.p)}")


@dataclass(frozen=True)
class Verdict:
    """Whether a comparison shows what its profile expects."""

    profile: Profile
    findings: Mapping[str, Finding]
    """By metric: the three that the gate judges."""
    accuracy: Finding
    not_online_rl: Finding | None
    """None where the profile does not assert it."""

    def __repr__(self) -> str:
        return short_repr(self, self.words, f"profile {self.profile.name}")

    @property
    def all_findings(self) -> Mapping[str, Finding]:
        """By measure, :attr:`Profile.measures`."""
        last = (self.accuracy, *([self.not_online_rl] if self.not_online_rl else []))
        return {**self.findings, **{finding.measure: finding for finding in last}}

    @property
    def failed(self) -> tuple[str, ...]:
        """The measures for which what was asserted does not hold."""
        return tuple(measure for measure, finding in self.all_findings.items() if finding.holds is False)

    @property
    def holds(self) -> bool:
        """Nothing that was asserted failed, and accuracy did not clearly fall."""
        return not self.failed

    @property
    def words(self) -> str:
        """``holds``, or ``does not hold: complexity, accuracy``."""
        return f"does not hold: {', '.join(self.failed)}" if self.failed else "holds"


@validate_arguments
def judge(comparison: Comparison) -> Verdict:
    """Hold a comparison against its profile. Raises RLCircuitsError for an unknown profile."""
    profile = profile_named(comparison.profile)
    return Verdict(
        profile=profile,
        findings={metric: _judge_effect(comparison, metric, profile.expected.get(metric)) for metric in GATE_METRICS},
        accuracy=_judge_accuracy(comparison),
        not_online_rl=_judge_not_online_rl(comparison) if profile.not_online_rl else None,
    )


def direction(effect: Effect | ControlEffect) -> Direction | None:
    """Where a metric went, None where neither one-sided test is below ALPHA."""
    if effect.p_up < SIGNIFICANCE_LEVEL:
        return "up"
    return "down" if effect.p_down < SIGNIFICANCE_LEVEL else None


def exceeds_control(comparison: Comparison, metric: str, towards: Direction) -> bool | None:
    """Whether a metric's effect lies beyond every noise draw's, by the rule above; None without a control."""
    if not comparison.controls:
        return None
    return _beyond(comparison.effects[metric], comparison.controls, metric, towards)


def counts(comparison: Comparison, metric: str, towards: Direction) -> bool:
    """Whether a metric's effect counts in this direction, by the rule above."""
    return (
        direction(comparison.effects[metric]) == towards and exceeds_control(comparison, metric, towards) is not False
    )


@validate_arguments
def reads_as_online_rl(comparison: Comparison) -> bool:
    """Whether all three metrics count in the directions of online RL."""
    return all(counts(comparison, metric, towards) for metric, towards in ONLINE_RL.items())


def noise_reads_as_online_rl(comparison: Comparison, draw: ControlDraw) -> bool:
    """Whether one of the noise draws would be taken for online RL: judged as a pair is, the other draws its control."""
    others = [control for control in comparison.controls if control.draw != draw.draw]
    return bool(draw.shifts) and all(
        direction(draw.shifts[metric]) == towards and _beyond(draw.shifts[metric], others, metric, towards)
        for metric, towards in ONLINE_RL.items()
    )


def _beyond(effect: Effect | ControlEffect, controls: Sequence[ControlDraw], metric: str, towards: Direction) -> bool:
    """Whether the interval's end nearer to zero lies beyond the mean difference of every control."""
    low, high = effect.interval
    draws = [control.shifts[metric].difference for control in controls if control.shifts]
    if len(draws) < len(controls):
        return False
    return all(low > draw for draw in draws) if towards == "up" else all(high < draw for draw in draws)


def _judge_effect(comparison: Comparison, metric: str, expected: Direction | None) -> Finding:
    effect = comparison.effects[metric]
    went = direction(effect)
    seen: str = went or "no clear change"
    beyond = exceeds_control(comparison, metric, went) if went else None
    p = {"up": effect.p_up, "down": effect.p_down, None: effect.p_two_sided}[expected]
    if went and beyond is False:
        seen = f"{went}, not beyond noise"
    if expected is None:
        holds, words = None, f"{seen} (reported)"
    elif went != expected:
        holds, words = False, f"{seen}, expected {expected}"
    elif beyond is False:
        holds, words = False, seen
    else:
        holds, words = True, f"{seen} as expected" + (", no control" if beyond is None else "")
    message = "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {metric}: {words}",
            *_effect_lines(effect, p, expected),
            _control_line(comparison, metric),
            _loss_line(comparison),
        ]
    )
    return Finding(metric, expected, p, holds, words, message)


def _effect_lines(effect: Effect, p: float, expected: Direction | None) -> list[str]:
    low, high = effect.interval
    test = (
        f"one-sided Wilcoxon signed-rank test for {expected}, level {SIGNIFICANCE_LEVEL:g}"
        if expected
        else "two-sided Wilcoxon"
    )
    return [
        f"  {effect.before:.4g} → {effect.after:.4g} ({effect.change:+.1%}), mean over"
        f" K = {effect.questions} questions; it rose on {effect.win_share:.0%} of them",
        f"  p = {p_in_words(p)} ({test})",
        f"  95 % interval of the mean difference: [{low:.3g}, {high:.3g}]",
    ]


def _control_line(comparison: Comparison, metric: str) -> str:
    if not comparison.controls:
        return "  no control was measured: only p is judged"
    draws = [
        f"{control.shifts[metric].difference:+.3g}" if control.shifts else f"not measurable ({control.k} right answers)"
        for control in comparison.controls
    ]
    accuracies = ", ".join(f"{control.accuracy:.3f}" for control in comparison.controls)
    return f"  noise of the update's norm, mean difference by draw: {', '.join(draws)} (accuracy {accuracies})"


def _loss_line(comparison: Comparison) -> str:
    loss, ratio = comparison.effects["loss"], comparison.effects["intensity_over_loss"]
    return (
        f"  loss {loss.before:.4g} → {loss.after:.4g} ({loss.change:+.1%}), intensity / loss {ratio.change:+.1%}:"
        " raw intensity follows surprise, so read it beside the loss"
    )


def _judge_accuracy(comparison: Comparison) -> Finding:
    effect: AccuracyEffect = comparison.accuracy
    holds = not effect.p_fall < ACCURACY_LEVEL
    words = "fell" if not holds else "no clear fall" if effect.after < effect.before else "did not fall"
    if comparison.n == 1:
        asked, moved, test = "", f"{effect.lost} lost, {effect.gained} gained", "McNemar"
    else:
        asked, test = f", {comparison.n} answers to each", "sign"
        moved = f"the share of right ones fell on {effect.lost} and rose on {effect.gained}"
    message = "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), accuracy: {words}",
            f"  {effect.before:.3f} → {effect.after:.3f} on {effect.asked} questions{asked}: {moved}",
            f"  p = {p_in_words(effect.p_fall)} (one-sided exact {test} test for a fall, level {ACCURACY_LEVEL:g})",
        ]
    )
    return Finding(ACCURACY, None, effect.p_fall, holds, words, message)


def _judge_not_online_rl(comparison: Comparison) -> Finding:
    holds = not reads_as_online_rl(comparison)
    words = "not read as online RL" if holds else "read as online RL"
    p = {metric: _one_sided(comparison.effects[metric], towards) for metric, towards in ONLINE_RL.items()}
    lines = [f"{comparison.name} ({comparison.algorithm}) is {words}"]
    for metric, towards in ONLINE_RL.items():
        effect = comparison.effects[metric]
        verb = "counts" if counts(comparison, metric, towards) else "does not count"
        lines += [
            f"  {metric}: {verb} as {towards}",
            *(f"  {line}" for line in _effect_lines(effect, p[metric], towards)),
        ]
        lines.append(f"  {_control_line(comparison, metric)}")
    return Finding(NOT_ONLINE_RL, None, max(p.values()), holds, words, "\n".join([*lines, _loss_line(comparison)]))


def _one_sided(effect: Effect, towards: Direction) -> float:
    return effect.p_up if towards == "up" else effect.p_down
