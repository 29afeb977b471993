"""The smallest changes that a planned run can detect, and how many questions its margins need.

:mod:`rlcircuits.release.plan_known` says what these numbers are computed from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rlcircuits.comparison.metric_power import questions_for_bound, smallest_holding_change, smallest_mean_change
from rlcircuits.comparison.power import (
    questions_for_claim,
    questions_for_equivalence,
    questions_for_margin,
    smallest_accuracy_change,
    smallest_shown_rise,
)
from rlcircuits.comparison.profiles import ACCURACY, GATE_METRICS, AccuracyRule, MetricRule
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.plan_known import BOTH, PairKnown, assumed_discordant


@dataclass(frozen=True)
class DetectableMetric:
    """What a run can show of one metric. Changes are relative to before's mean."""

    rule: MetricRule | None
    """What the profile asserts of the metric; None if it is only reported."""
    change: float | None
    """Smallest mean change that the one-sided signed-rank test detects; None if it detects none."""
    holds_from: float | None
    """Smallest change in the asserted direction that the test detects and the interval shows to be above the minimum;
    None if there is none, or no direction is asserted."""
    questions: int | None
    """For ``same``: questions compared that show an unchanged metric to be within the bound."""


@dataclass(frozen=True)
class Margin:
    """How many questions a margin of accuracy needs."""

    measure: str
    """``accuracy``, ``claimed-accuracy`` or ``reference-accuracy``."""
    margin: float
    """As a share."""
    questions: int | None
    """Questions asked that show an accuracy to be within the margin, if it is as it should be; None if no number is
    enough."""


@dataclass(frozen=True)
class Detectable:
    """The smallest changes that measuring one pair detects with 80 % power. Shares, not points or percent."""

    asked: int
    """Questions asked."""
    answers: int
    """Answers to each."""
    known: PairKnown
    """What the numbers are computed from."""
    rule: AccuracyRule
    """What is asserted of accuracy."""
    fall: float | None
    """Smallest fall of accuracy that the exact one-sided test detects; None if it detects none."""
    rise: float | None
    """Smallest rise that it detects."""
    rise_holds_from: float | None
    """For the rule ``rose``: smallest rise that the test detects and the interval shows to be above the minimum; None
    if there is none, or for another rule."""
    margins: tuple[Margin, ...]
    """The margins that the rule and the claims have."""
    compared: int
    """Questions whose metrics are compared, as far as can be told."""
    min_questions: int
    """Fewest questions that are compared."""
    all_recorded: bool
    """Whether both models' answers are recorded, so that nothing can change which questions are compared."""
    metrics: Mapping[str, DetectableMetric]
    """By metric; empty if fewer than `min_questions` are compared, or an earlier comparison has no spread."""

    @property
    def too_few(self) -> bool:
        """Return whether fewer questions are left than are compared at least, as far as can be told."""
        return self.compared < self.min_questions

    @property
    def surely_too_few(self) -> bool:
        """Return whether that is certain: fewer are asked, or all answers are recorded."""
        recorded = self.known.passing.origin == BOTH and self.all_recorded
        return self.asked < self.min_questions or (self.too_few and recorded)


def detectable_changes(measurement: Measurement, known: PairKnown) -> Detectable:
    """Return the smallest changes that a run detects.

    Args:
        measurement: what is planned.
        known: what is known of the pair.
    """
    settings, asked = measurement.settings, len(measurement.questions)
    answers, rule = settings.sampling.n, measurement.pair.expectations.accuracy
    rate, discordant = known.rate.value, known.discordant.value
    rise_level = rule.level if rule.rule == "rose" else ACCURACY_LEVEL
    fall_level = rule.level if rule.rule == "not-fallen" else ACCURACY_LEVEL
    rise = smallest_accuracy_change(asked, rate, discordant, "up", rise_level, answers=answers)
    shown = None
    if rule.rule == "rose" and rise is not None:
        shown = smallest_shown_rise(asked, rate, discordant, rule.minimum, ACCURACY_LEVEL, answers=answers)
    compared = min(settings.k or asked, round(asked * known.passing.value))
    return Detectable(
        asked=asked,
        answers=answers,
        known=known,
        rule=rule,
        fall=smallest_accuracy_change(asked, rate, discordant, "down", fall_level, answers=answers),
        rise=rise,
        rise_holds_from=None if shown is None or rise is None else max(rise, shown),
        margins=_margins(measurement, known),
        compared=compared,
        min_questions=settings.min_questions,
        all_recorded=all(measurement.recorded.values()),
        metrics={} if compared < max(settings.min_questions, 2) else _metrics(measurement, known, compared),
    )


def _metrics(measurement: Measurement, known: PairKnown, compared: int) -> dict[str, DetectableMetric]:
    rules = measurement.pair.expectations.metrics
    found = {}
    for metric in GATE_METRICS:
        rule, spread = rules.get(metric), known.spread[metric]
        if not math.isfinite(spread):
            continue
        level = SIGNIFICANCE_LEVEL if rule is None else rule.level
        directed = rule is not None and rule.bound is None
        bounded = rule is not None and rule.bound is not None
        found[metric] = DetectableMetric(
            rule,
            smallest_mean_change(spread, compared, level),
            smallest_holding_change(spread, compared, level, rule.minimum) if rule and directed else None,
            questions_for_bound(spread, rule.bound) if rule and bounded and rule.bound else None,
        )
    return found


def _margins(measurement: Measurement, known: PairKnown) -> tuple[Margin, ...]:
    """Return how many questions each margin needs, at level .05 and 80 % power."""
    pair, n = measurement.pair, measurement.settings.sampling.n
    rule = pair.expectations.accuracy
    rate, discordant = known.rate.value, known.discordant.value
    found = []
    if rule.rule == "not-inferior":
        needed = questions_for_margin(rate, discordant, rule.margin, ACCURACY_LEVEL, answers=n)
        found.append(Margin(ACCURACY, rule.margin, needed))
    if rule.rule == "equivalent":
        needed = questions_for_equivalence(rate, discordant, rule.margin, ACCURACY_LEVEL, answers=n)
        found.append(Margin(ACCURACY, rule.margin, needed))
    if pair.claimed_accuracy is not None:
        ratio = known.variance_ratio.value
        needed = questions_for_claim(pair.claimed_accuracy, rule.margin, ACCURACY_LEVEL, variance_ratio=ratio)
        found.append(Margin("claimed-accuracy", rule.margin, needed))
    if pair.reference is not None:
        theirs = known.reference_rate.value
        differ = assumed_discordant(theirs, pair.recorded_after is not None).value
        needed = questions_for_margin(theirs, differ, rule.margin, ACCURACY_LEVEL, answers=n)
        found.append(Margin("reference-accuracy", rule.margin, needed))
    return tuple(found)
