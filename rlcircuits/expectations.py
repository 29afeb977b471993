"""What a kind of post-training should do to the metrics, and whether a comparison shows it.

One table, :data:`PROFILES`, says which directions are asserted for which algorithm. The asserted directions
are those that arXiv 2509.21044 reports for online RL; for everything else the directions are reported only.

The three metrics of a profile are judged together: the verdict holds only if *all* of them moved as
expected, each at level :data:`ALPHA`. This is an intersection-union test, whose own level is at most ALPHA,
so the three tests need no correction for being three.

A change that passes is a real change over the questions. That it is the *algorithm's* doing needs a control
(the same base with noise, or with supervised training), and raw intensity follows surprise, so that a verdict
always shows the loss and the accuracy beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from rlcircuits.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.comparison import AccuracyEffect, Comparison, Effect

Direction = Literal["up", "down"]

GATE_METRICS = ("intensity", "complexity", "kurtosis")
"""The three metrics the gate judges, in the order they are shown."""

ALPHA = 0.01
"""Level of each metric's one-sided Wilcoxon signed-rank test."""

ACCURACY_LEVEL = 0.05
"""Level of McNemar's one-sided test for a fall in accuracy. Looser than ALPHA, since here a small p is the
bad news: the gate should notice damage early."""


@dataclass(frozen=True)
class Profile:
    """What is expected of a kind of post-training."""

    name: str
    meaning: str
    algorithms: tuple[str, ...]
    expected: Mapping[str, Direction]
    """Direction asserted, by metric. Metrics not named are reported. Accuracy must never fall."""


PROFILES: tuple[Profile, ...] = (
    Profile(
        name="online-rl",
        meaning="trained on its own sampled answers by their reward",
        algorithms=("grpo", "ppo", "rloo", "reinforce", "dapo"),
        expected=MappingProxyType({"intensity": "up", "complexity": "up", "kurtosis": "down"}),
    ),
    Profile(
        name="preference",
        meaning="trained on pairs of preferred and rejected answers; weak or inconsistent in the paper",
        algorithms=("dpo", "ipo", "kto", "orpo", "simpo"),
        expected=MappingProxyType({}),
    ),
    Profile(
        name="control",
        meaning="no reinforcement learning: what the metrics do without it",
        algorithms=("sft", "rft", "noise"),
        expected=MappingProxyType({}),
    ),
)


def algorithms() -> tuple[str, ...]:
    """Every algorithm that has a profile."""
    return tuple(algorithm for profile in PROFILES for algorithm in profile.algorithms)


def profile_for(algorithm: str) -> Profile:
    """Find the profile of an algorithm, named in any case. Raises RLCircuitsError for an unknown one."""
    for profile in PROFILES:
        if algorithm.lower() in profile.algorithms:
            return profile
    raise RLCircuitsError(f"algorithm is {algorithm!r}; it must be one of {', '.join(algorithms())}")


@dataclass(frozen=True)
class Finding:
    """One line of a verdict."""

    measure: str
    """A metric's name, or ``accuracy``."""
    expected: Direction | None
    """None where the direction is reported and not asserted."""
    p: float
    """One-sided for an asserted direction, two-sided for a reported one; for accuracy that of a fall."""
    holds: bool | None
    """None where nothing was asserted."""
    words: str
    """``up as expected``, ``no clear change, expected up``, ``down (reported)``, …"""
    message: str = field(repr=False)
    """The numbers, for whoever reads the failed test."""


@dataclass(frozen=True)
class Verdict:
    """Whether a comparison shows what its algorithm's profile expects."""

    profile: Profile
    findings: Mapping[str, Finding]
    """By metric: the three that the gate judges."""
    accuracy: Finding

    @property
    def holds(self) -> bool:
        """No asserted direction failed, and accuracy did not fall."""
        return all(finding.holds is not False for finding in (*self.findings.values(), self.accuracy))

    @property
    def words(self) -> str:
        """``holds``, or ``does not hold: complexity, accuracy``."""
        failed = [f.measure for f in (*self.findings.values(), self.accuracy) if f.holds is False]
        return f"does not hold: {', '.join(failed)}" if failed else "holds"


def judge(comparison: Comparison) -> Verdict:
    """Hold a comparison against its algorithm's profile. Raises RLCircuitsError for an unknown algorithm."""
    profile = profile_for(comparison.algorithm)
    return Verdict(
        profile=profile,
        findings={metric: _judge_effect(comparison, metric, profile.expected.get(metric)) for metric in GATE_METRICS},
        accuracy=_judge_accuracy(comparison),
    )


def direction(effect: Effect) -> Direction | None:
    """Where a metric went, None where neither one-sided test is below ALPHA."""
    if effect.p_up < ALPHA:
        return "up"
    return "down" if effect.p_down < ALPHA else None


def _judge_effect(comparison: Comparison, metric: str, expected: Direction | None) -> Finding:
    effect = comparison.effects[metric]
    went = direction(effect)
    seen = went or "no clear change"
    p = {"up": effect.p_up, "down": effect.p_down, None: effect.p_two_sided}[expected]
    if expected is None:
        holds, words = None, f"{seen} (reported)"
    elif went == expected:
        holds, words = True, f"{seen} as expected"
    else:
        holds, words = False, f"{seen}, expected {expected}"
    return Finding(metric, expected, p, holds, words, _effect_message(comparison, effect, words, expected, p))


def _effect_message(comparison: Comparison, effect: Effect, words: str, expected: Direction | None, p: float) -> str:
    loss = comparison.effects["loss"]
    low, high = effect.interval
    test = f"one-sided Wilcoxon signed-rank test for {expected}, level {ALPHA:g}" if expected else "two-sided Wilcoxon"
    return "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {effect.metric}: {words}",
            f"  {effect.before:.4g} → {effect.after:.4g} ({effect.change:+.1%}), mean over"
            f" K = {effect.questions} questions; it rose on {effect.win_share:.0%} of them",
            f"  p = {p:.2g} ({test})",
            f"  95 % interval of the mean difference: [{low:.3g}, {high:.3g}]",
            f"  loss {loss.before:.4g} → {loss.after:.4g} ({loss.change:+.1%}): raw intensity follows"
            " surprise, so read it beside the loss",
        ]
    )


def _judge_accuracy(comparison: Comparison) -> Finding:
    effect: AccuracyEffect = comparison.accuracy
    holds = not effect.p_fall < ACCURACY_LEVEL
    words = "did not fall" if holds else "fell"
    message = "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), accuracy: {words}",
            f"  {effect.before:.3f} → {effect.after:.3f} on {effect.asked} questions:"
            f" {effect.lost} lost, {effect.gained} gained",
            f"  p = {effect.p_fall:.2g} (one-sided exact McNemar test for a fall, level {ACCURACY_LEVEL:g})",
        ]
    )
    return Finding("accuracy", None, effect.p_fall, holds, words, message)
