"""The verdict: whether a comparison shows what its kind of training should do to the metrics and to accuracy.

The rule was fixed on development seeds before the shipped pairs were judged by it; docs/verdict.md says how.

A verdict has three outcomes (:mod:`rlcircuits.comparison.outcome`). Each thing that the profile asserts has one of
them, and the verdict follows:

1. **does not hold** if any of them does not hold: there is evidence against it;
2. else **inconclusive** if any is;
3. else **holds**.

What is asserted (:mod:`rlcircuits.comparison.profiles`):

- the direction of a metric, or that it is the same: :mod:`rlcircuits.comparison.metric_outcome`;
- accuracy, and what the release claims of it: :mod:`rlcircuits.comparison.accuracy_outcome`;
- what the release states of the pair's circuits: :mod:`rlcircuits.comparison.circuit_outcome`;
- ``not-online-rl``: that the three metrics do not all move in online RL's directions. It does not hold if all three
  hold by the rules of the profile ``online-rl``, holds if one of them does not hold, and is inconclusive otherwise.

**Why the level is not divided by three.** ``online-rl`` holds only if all three metrics do. That is an
intersection-union test, whose level is at most that of each single test, so no correction is needed.

Raw intensity follows the loss: a model that is surprised more has larger gradients. Every explanation therefore shows
the loss and the accuracy beside the metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.html_tables import titled_table
from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.accuracy_outcome import AccuracyOutcome, judge_accuracy, judge_claim
from rlcircuits.comparison.circuit_outcome import explain_circuits, judge_circuits
from rlcircuits.comparison.explanations import (
    explain_accuracy,
    explain_claim,
    explain_effect,
    explain_not_online_rl,
)
from rlcircuits.comparison.metric_outcome import (
    MetricOutcome,
    judge_comparison_metric,
    judge_direction,
    noise_range,
    noise_shifts,
)
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import (
    ACCURACY,
    GATE_METRICS,
    NOT_ONLINE_RL,
    ONLINE_RL,
    Direction,
    MetricRule,
    Profile,
    pattern_rules,
)
from rlcircuits.comparison.significance import SIGNIFICANCE_LEVEL, p_in_words

if TYPE_CHECKING:
    from rlcircuits.comparison.circuit_checks import CircuitAssertion
    from rlcircuits.comparison.comparison import Comparison, ControlDraw
    from rlcircuits.comparison.effects import AccuracyClaim, ControlEffect, Effect


@dataclass(frozen=True)
class Finding:
    """What a verdict says about one measure."""

    measure: str
    """A metric's name, ``accuracy``, ``claimed-accuracy``, ``reference-accuracy``, ``circuit-overlap``,
    ``circuit-faithfulness`` or ``not-online-rl``."""
    expected: str | None
    """``up``, ``down`` or ``same``; None if nothing of the kind is asserted."""
    p: float
    """For a metric, the one-sided p of the asserted direction, or the two-sided p if none is asserted; for accuracy,
    the p of a rise if a rise is asserted and it did not fall, else of a fall; for ``not-online-rl``, the largest
    one-sided p in online RL's three directions; for circuits, the p of being below the minimum."""
    outcome: Outcome | None
    """None if nothing is asserted. A metric of a pair without a question to compare is inconclusive all the same."""
    words: str
    """``up as expected``, ``no clear change, expected up``, ``down (reported)``, …"""
    message: str = field(repr=False)
    """The numbers behind the finding, as a failed test shows them."""
    settled_by: int | None = None
    """For an inconclusive outcome, the number of questions (compared ones for a metric, asked ones for accuracy) that
    would settle it at 90 % power; None if no number would, or none is known."""

    @property
    def holds(self) -> bool | None:
        """Return whether the assertion holds, which an inconclusive one does not; None if nothing is asserted."""
        return None if self.outcome is None else self.outcome == "holds"

    def __repr__(self) -> str:
        return short_repr(self, self.measure, self.words, f"p = {p_in_words(self.p)}")


@dataclass(frozen=True)
class Verdict:
    """Whether a comparison shows what its profile asserts."""

    profile: Profile
    findings: Mapping[str, Finding]
    """The findings on the three metrics, by metric."""
    accuracy: Finding
    claims: tuple[Finding, ...]
    """What the release states of after's accuracy."""
    not_online_rl: Finding | None
    """None if the profile does not assert it."""
    circuits: tuple[Finding, ...] = ()
    """What the release states of the pair's circuits."""

    def __repr__(self) -> str:
        return short_repr(self, self.words, f"profile {self.profile.name}")

    def _repr_html_(self) -> str:
        """Return the outcome and every finding as a table for a notebook."""
        rows = [
            (measure, finding.expected or "", finding.outcome or "reported", p_in_words(finding.p), finding.words)
            for measure, finding in self.all_findings.items()
        ]
        title = f"{self.words} (profile {self.profile.name})"
        return titled_table(title, ("measure", "expected", "outcome", "p", "found"), rows)

    @property
    def all_findings(self) -> Mapping[str, Finding]:
        """Return every finding by measure: those of :attr:`Profile.measures` in order, the claims, the circuits."""
        last = (
            self.accuracy,
            *([self.not_online_rl] if self.not_online_rl else []),
            *self.claims,
            *self.circuits,
        )
        return {**self.findings, **{finding.measure: finding for finding in last}}

    @property
    def failed(self) -> tuple[str, ...]:
        """Return the measures whose assertion does not hold."""
        return self._with("does not hold")

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """Return the measures of whose assertion too little is known."""
        return self._with("inconclusive")

    @property
    def outcome(self) -> Outcome:
        """Return the outcome, by the rule of this module."""
        return "does not hold" if self.failed else "inconclusive" if self.inconclusive else "holds"

    @property
    def holds(self) -> bool:
        """Return whether every assertion holds."""
        return self.outcome == "holds"

    @property
    def words(self) -> str:
        """Return the verdict in words: ``holds``, or ``does not hold: complexity, accuracy``."""
        named = self.failed or self.inconclusive
        return f"{self.outcome}: {', '.join(named)}" if named else self.outcome

    def _with(self, outcome: Outcome) -> tuple[str, ...]:
        return tuple(measure for measure, finding in self.all_findings.items() if finding.outcome == outcome)


@validate_arguments
def judge(comparison: Comparison) -> Verdict:
    """Judge a comparison by its profile.

    Raises:
        RLCircuitsError: the comparison names an unknown profile.
    """
    profile = comparison.judged_by
    asserted = () if comparison.circuits is None else comparison.circuits.assertions
    return Verdict(
        profile=profile,
        findings={metric: _judge_effect(comparison, metric, profile.metrics.get(metric)) for metric in GATE_METRICS},
        accuracy=_accuracy_finding(comparison, judge_accuracy(comparison.accuracy, profile.accuracy), profile),
        claims=tuple(_claim_finding(comparison, claim, judge_claim(claim)) for claim in comparison.claims),
        not_online_rl=_judge_not_online_rl(comparison) if profile.not_online_rl else None,
        circuits=tuple(_circuit_finding(comparison, each) for each in asserted),
    )


def direction(effect: Effect | ControlEffect, level: float = SIGNIFICANCE_LEVEL) -> Direction | None:
    """Return the direction in which an effect is significant at a level, or None."""
    if effect.p_up < level:
        return "up"
    return "down" if effect.p_down < level else None


def exceeds_control(comparison: Comparison, metric: str, towards: Direction) -> bool | None:
    """Return whether a metric's interval lies beyond the limit of noise; None if no noise control was measured."""
    if not comparison.controls:
        return None
    low, high = comparison.effects[metric].interval
    _, limit = noise_range(noise_shifts(comparison.controls, metric), towards)
    return (low if towards == "up" else -high) > limit


@validate_arguments
def reads_as_online_rl(comparison: Comparison) -> bool:
    """Return whether all three metrics hold in online RL's directions: the study's pattern."""
    return all(found.outcome == "holds" for found in _pattern(comparison).values())


def noise_reads_as_online_rl(comparison: Comparison, draw: ControlDraw) -> bool:
    """Return whether a noise draw shows online RL's pattern, judged like a pair with the other draws as its control."""
    others = [control for control in comparison.controls if control.draw != draw.draw]
    rules = pattern_rules()

    def holds(metric: str, towards: Direction) -> bool:
        noise = noise_shifts(others, metric)
        return judge_direction(draw.shifts[metric], towards, rules[metric], noise).outcome == "holds"

    return bool(draw.shifts) and all(holds(metric, towards) for metric, towards in ONLINE_RL.items())


def _pattern(comparison: Comparison) -> dict[str, MetricOutcome]:
    """Return the outcome of each metric by the rules of the profile ``online-rl``."""
    return {metric: judge_comparison_metric(comparison, metric, rule) for metric, rule in pattern_rules().items()}


_THOUGH_IT_WENT = (
    "not beyond noise",
    "within noise",
    "may be negligible",
    "not beyond supervised training",
    "within supervised training",
)
"""Why a metric that went where it was expected to may be no evidence all the same."""


def _judge_effect(comparison: Comparison, metric: str, rule: MetricRule | None) -> Finding:
    effect = comparison.effects[metric]
    went = direction(effect, SIGNIFICANCE_LEVEL if rule is None else rule.level)
    outcome: Outcome | None = None
    if not comparison.is_measured:
        # Nothing is known of the pair but its accuracy, so that it does not hold even if no metric is asserted.
        found, words, p = MetricOutcome("inconclusive", "not measured"), "not measured", 1.0
        outcome = found.outcome
    elif rule is None:
        within = went is not None and exceeds_control(comparison, metric, went) is False
        moved = (went or "no clear change") if effect.questions else "not measured"
        words = f"{moved}{', not beyond noise' if within else ''} (reported)"
        found, p = MetricOutcome("holds", ""), effect.p_two_sided
    else:
        found = judge_comparison_metric(comparison, metric, rule)
        words = _words(comparison, found, rule, went)
        p = {"up": effect.p_up, "down": effect.p_down, "same": effect.p_two_sided}[rule.expected]
        outcome = found.outcome
    return Finding(
        measure=metric,
        expected=None if rule is None else rule.expected,
        p=p,
        outcome=outcome,
        words=words,
        message=explain_effect(comparison, metric, rule, p, words, found),
        settled_by=found.settled_by,
    )


def _words(comparison: Comparison, found: MetricOutcome, rule: MetricRule, went: Direction | None) -> str:
    if rule.expected == "same":
        return found.why
    if found.outcome == "holds":
        controlled = "" if comparison.controls else ", no noise control" if comparison.supervised else ", no control"
        beyond = ", beyond supervised training" if comparison.supervised else ""
        return f"{rule.expected} as expected{beyond}{controlled}"
    if found.why == "the other way":
        return f"{'down' if rule.expected == 'up' else 'up'}, expected {rule.expected}"
    if found.why in _THOUGH_IT_WENT and went == rule.expected:
        return f"{went}, {found.why}"
    return f"{found.why}, expected {rule.expected}"


def _accuracy_finding(comparison: Comparison, found: AccuracyOutcome, profile: Profile) -> Finding:
    message = explain_accuracy(comparison, profile.accuracy, found)
    return Finding(ACCURACY, None, found.p, found.outcome, found.words, message, found.settled_by)


def _claim_finding(comparison: Comparison, claim: AccuracyClaim, found: AccuracyOutcome) -> Finding:
    message = explain_claim(comparison, claim, found)
    return Finding(claim.measure, None, found.p, found.outcome, found.words, message, found.settled_by)


def _circuit_finding(comparison: Comparison, asserted: CircuitAssertion) -> Finding:
    found = judge_circuits(asserted)
    message = explain_circuits(comparison, asserted, found)
    return Finding(asserted.measure, None, found.p, found.outcome, found.words, message)


def _judge_not_online_rl(comparison: Comparison) -> Finding:
    found = _pattern(comparison)
    outcomes = {each.outcome for each in found.values()}
    outcome: Outcome
    if outcomes == {"holds"}:
        outcome, words = "does not hold", "shows online RL's pattern"
    elif "does not hold" in outcomes:
        outcome, words = "holds", "does not show online RL's pattern"
    elif comparison.is_measured:
        outcome, words = "inconclusive", "may show online RL's pattern"
    else:
        outcome, words = "inconclusive", "not measured"
    effects = comparison.effects
    p = {
        metric: effects[metric].p_up if towards == "up" else effects[metric].p_down
        for metric, towards in ONLINE_RL.items()
    }
    message = explain_not_online_rl(comparison, found, p, words, outcome)
    return Finding(NOT_ONLINE_RL, None, max(p.values()), outcome, words, message, _settling_all(outcome, found))


def _settling_all(outcome: Outcome, found: Mapping[str, MetricOutcome]) -> int | None:
    """Return the number of questions that would settle every metric, if one is known for each that is inconclusive."""
    needed = [each.settled_by for each in found.values() if each.outcome == "inconclusive"]
    if outcome != "inconclusive":
        return None
    return max((each for each in needed if each is not None), default=None) if None not in needed else None
