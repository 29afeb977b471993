"""The evidence against a pair, and a release judged by it.

The evidence is a p-value for each measure of which something is asserted, of the test that decides whether the measure
*does not hold* (:mod:`rlcircuits.comparison.metric_outcome`, :mod:`rlcircuits.comparison.accuracy_outcome`):

- a fall in accuracy: the exact sign test's p;
- whatever an interval decides, by lying beyond a boundary (a minimum effect, the noise, supervised training's effect, a
  margin or a bound): the level at which the interval's nearer end would reach the boundary, if it widened as a normal
  distribution's does. So it is .025 where a 95 % interval just touches the boundary, .05 where a 90 % one does, and
  smaller the farther away it is;
- a rule with two ways to fail: the smaller p;
- ``not-online-rl``, which fails only if all three metrics hold: the largest p of what all three need for it.

A measure that could not be measured has p = 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rlcircuits.comparison.circuit_outcome import judge_circuits
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import ACCURACY_CONFIDENCE
from rlcircuits.comparison.interval_evidence import p_above, p_below
from rlcircuits.comparison.metric_outcome import judge_comparison_metric, noise_range, noise_shifts
from rlcircuits.comparison.multiplicity import PairOutcome, ReleaseOutcome, combine_evidence, judge_release
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.comparison.profiles import (
    ACCURACY,
    NOT_ONLINE_RL,
    ONLINE_RL,
    AccuracyRule,
    Direction,
    MetricRule,
    pattern_rules,
)
from rlcircuits.comparison.verdict import judge

if TYPE_CHECKING:
    from rlcircuits.comparison.effects import AccuracyEffect


def judge_comparisons(comparisons: Sequence[Comparison]) -> ReleaseOutcome:
    """Judge the release that these comparisons make up; its pairs are in the same order.

    The evidence against a pair is that of all its measures together, as
    :func:`~rlcircuits.comparison.multiplicity.combine_evidence` has it.

    Raises:
        RLCircuitsError: there is no comparison, or one names an unknown profile.
    """
    pairs = [
        PairOutcome(name, judge(comparison).outcome, combine_evidence(evidence_against(comparison)))
        for name, comparison in zip(_unique_names(comparisons), comparisons, strict=True)
    ]
    return judge_release(pairs)


def evidence_against(comparison: Comparison) -> dict[str, float]:
    """Return, for each measure that can fail, the p-value of the evidence that it does not hold."""
    profile = comparison.judged_by
    found = {metric: _against_metric(comparison, metric, rule) for metric, rule in profile.metrics.items()}
    found[ACCURACY] = _against_accuracy(comparison.accuracy, profile.accuracy)
    if profile.not_online_rl:
        found[NOT_ONLINE_RL] = _for_the_pattern(comparison)
    for claim in comparison.claims:
        found[claim.measure] = p_below(claim.found - claim.wanted, claim.interval, -claim.margin, ACCURACY_CONFIDENCE)
    if comparison.circuits is not None:
        found |= {each.measure: judge_circuits(each).p for each in comparison.circuits.assertions}
    return found


def _against_metric(comparison: Comparison, metric: str, rule: MetricRule) -> float:
    effect = comparison.effects[metric]
    difference, interval = effect.difference, effect.interval
    if not effect.questions or math.isnan(sum(interval)):
        return 1.0
    if rule.expected == "same":
        assert rule.bound is not None
        bound = rule.bound * abs(effect.before)
        return min(
            p_below(difference, interval, -bound, CONFIDENCE),
            p_above(difference, interval, bound, CONFIDENCE),
        )
    blinded = judge_comparison_metric(comparison, metric, rule).blinded_by
    least_noise = -math.inf if blinded else noise_range(noise_shifts(comparison.controls, metric), rule.expected)[0]
    limit = max(rule.minimum * abs(effect.before), least_noise)
    less = p_below(*_counted(rule.expected, difference, interval), limit, CONFIDENCE)
    beyond = comparison.beyond_supervised(metric)
    if beyond is None or math.isnan(sum(beyond.interval)):
        return less
    return min(less, p_below(*_counted(rule.expected, beyond.difference, beyond.interval), 0.0, CONFIDENCE))


def _against_accuracy(effect: AccuracyEffect, rule: AccuracyRule) -> float:
    difference = effect.after - effect.before
    fell = effect.p_fall if difference < 0 else 1.0
    if rule.rule == "not-fallen":
        return fell
    if effect.interval is None:
        return fell if rule.rule == "rose" else 1.0
    least = rule.minimum if rule.rule == "rose" else -rule.margin
    below = p_below(difference, effect.interval, least, ACCURACY_CONFIDENCE)
    if rule.rule == "rose":
        return min(fell, below)
    if rule.rule == "equivalent":
        return min(below, p_above(difference, effect.interval, rule.margin, ACCURACY_CONFIDENCE))
    return below


def _for_the_pattern(comparison: Comparison) -> float:
    """Return the p-value of the evidence that a pair shows online RL's pattern: that of its weakest metric."""

    def needed() -> Iterator[float]:
        rules = pattern_rules()
        for metric, towards in ONLINE_RL.items():
            effect = comparison.effects[metric]
            if not effect.questions or math.isnan(sum(effect.interval)):
                yield 1.0
                continue
            _, noise_limit = noise_range(noise_shifts(comparison.controls, metric), towards)
            if noise_limit == math.inf:  # no effect exceeds a draw that could not be measured
                yield 1.0
            else:
                limit = max(rules[metric].minimum * abs(effect.before), noise_limit)
                yield effect.p_up if towards == "up" else effect.p_down
                yield p_above(*_counted(towards, effect.difference, effect.interval), limit, CONFIDENCE)
            if (beyond := comparison.beyond_supervised(metric)) is not None:
                measured = not math.isnan(sum(beyond.interval))
                counted = _counted(towards, beyond.difference, beyond.interval)
                yield p_above(*counted, 0.0, CONFIDENCE) if measured else 1.0

    return max(needed())


def _counted(towards: Direction, difference: float, interval: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Return a difference and its interval in a direction: down with their signs turned round."""
    low, high = interval
    return (difference, interval) if towards == "up" else (-difference, (-high, -low))


def _unique_names(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the comparisons' names, told apart by a number where several have one name."""
    names: list[str] = []
    for comparison in comparisons:
        name, count = comparison.name, 1
        while name in names:
            count += 1
            name = f"{comparison.name} ({count})"
        names.append(name)
    return names
