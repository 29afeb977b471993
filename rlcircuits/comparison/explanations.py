"""Explain a verdict's findings: the numbers that a failed test shows, one short paragraph a finding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlcircuits.comparison.funnel import show_funnel
from rlcircuits.comparison.metric_outcome import NOISE_MARGIN
from rlcircuits.comparison.metric_power import settling_in_words
from rlcircuits.comparison.profiles import ACCURACY, NOT_ONLINE_RL, AccuracyRule, MetricRule, pattern_rules
from rlcircuits.comparison.significance import ACCURACY_LEVEL, p_in_words

if TYPE_CHECKING:
    from rlcircuits.comparison.accuracy_outcome import AccuracyOutcome
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.effects import AccuracyClaim, ControlEffect, Effect
    from rlcircuits.comparison.metric_outcome import MetricOutcome
    from rlcircuits.comparison.outcome import Outcome


def explain_effect(
    comparison: Comparison, metric: str, rule: MetricRule | None, p: float, words: str, found: MetricOutcome
) -> str:
    """Explain the finding on one metric.

    Args:
        comparison: what was measured.
        metric: the metric's name.
        rule: what is asserted of it; None if it is only reported.
        p: p-value of the finding, one-sided for an asserted direction, else two-sided.
        words: the finding in words.
        found: the outcome.
    """
    if not comparison.is_measured:
        return _not_measured(comparison, metric)
    outcome = found.outcome if rule else None
    measured = comparison.effects[metric].questions > 0
    return "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {metric}: {_headline(words, outcome)}",
            *_effect_lines(comparison.effects[metric], p, rule),
            _control_line(comparison, metric, rule),
            *_group_lines(comparison, metric, found),
            *_supervised_lines(comparison, metric),
            *([f"  {_settling(found.settled_by, 'compared')}"] if outcome == "inconclusive" and measured else []),
            _loss_line(comparison),
        ]
    )


def explain_accuracy(comparison: Comparison, rule: AccuracyRule, found: AccuracyOutcome) -> str:
    """Explain the finding on accuracy.

    Args:
        comparison: what was measured.
        rule: what is asserted of accuracy.
        found: the outcome.
    """
    effect = comparison.accuracy
    if comparison.n == 1:
        asked, moved, test = "", f"{effect.lost} lost, {effect.gained} gained", "McNemar"
    else:
        asked, test = f", {comparison.n} answers to each", "sign"
        moved = f"the share of right ones fell on {effect.lost} and rose on {effect.gained}"
    level = ACCURACY_LEVEL if rule.rule == "rose" and found.p_of == "fall" else rule.level
    # The rules with a margin are decided by the interval alone.
    decides = f", level {level:g}" if rule.rule in ("rose", "not-fallen") else "; the interval decides"
    return "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {ACCURACY}: {_headline(found.words, found.outcome)}",
            f"  {effect.before:.3f} → {effect.after:.3f} on {effect.asked} questions{asked}: {moved}",
            f"  p = {p_in_words(found.p)} (one-sided exact {test} test for a {found.p_of}{decides})",
            *_accuracy_interval(effect.interval, rule),
            *([f"  {_settling(found.settled_by, 'asked')}"] if found.outcome == "inconclusive" else []),
        ]
    )


def explain_claim(comparison: Comparison, claim: AccuracyClaim, found: AccuracyOutcome) -> str:
    """Explain the finding on what a release claims of its accuracy."""
    what = "the accuracy claimed" if claim.reference is None else f"the accuracy of {claim.reference}"
    return "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {claim.measure}: {_headline(found.words, found.outcome)}",
            f"  {what} is {claim.wanted:.3f}; found {claim.found:.3f} on {claim.asked} questions",
            f"  90 % interval of the difference: {_points(claim.interval)}; the margin is {_margin(claim.margin)}",
            *([f"  {_settling(found.settled_by, 'asked')}"] if found.outcome == "inconclusive" else []),
        ]
    )


def explain_not_online_rl(
    comparison: Comparison, found: Mapping[str, MetricOutcome], p: Mapping[str, float], words: str, outcome: Outcome
) -> str:
    """Explain the finding that a pair does, or does not, show online RL's pattern.

    Args:
        comparison: what was measured.
        found: by metric, its outcome by the rules of the profile ``online-rl``.
        p: by metric, the one-sided p-value in that direction.
        words: the finding in words.
        outcome: the finding's outcome.
    """
    if not comparison.is_measured:
        return _not_measured(comparison, NOT_ONLINE_RL)
    lines = [f"{comparison.name} ({comparison.algorithm}), {NOT_ONLINE_RL}: {_headline(words, outcome)}"]
    for metric, rule in pattern_rules().items():
        lines += [
            f"  {metric} {rule.expected}, as under online RL: {found[metric].outcome}, {found[metric].why}",
            *(f"  {line}" for line in _effect_lines(comparison.effects[metric], p[metric], rule)),
            f"  {_control_line(comparison, metric, rule)}",
            *(f"  {line}" for line in _group_lines(comparison, metric, found[metric])),
            *(f"  {line}" for line in _supervised_lines(comparison, metric)),
        ]
    return "\n".join([*lines, _loss_line(comparison)])


def _not_measured(comparison: Comparison, measure: str) -> str:
    return (
        f"{comparison.name} ({comparison.algorithm}), {measure}: inconclusive: not measured\n"
        f"  {comparison.note or 'no question is compared'}: {show_funnel(comparison.funnel)}"
    )


def _headline(words: str, outcome: Outcome | None) -> str:
    return f"inconclusive: {words}" if outcome == "inconclusive" else words


def _settling(questions: int | None, which: str) -> str:
    words = settling_in_words(questions)
    return words if questions is None else words.replace("questions", f"{which} questions")


def _points(interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    return f"[{low:+.1f}, {high:+.1f}] points"


def _margin(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:g} points"


def _accuracy_interval(interval: tuple[float, float] | None, rule: AccuracyRule) -> list[str]:
    if interval is None:
        return []
    least = {
        "rose": f"; a rise of less than {_margin(rule.minimum)} does not count",
        "not-fallen": "",
        "not-inferior": f"; the margin is {_margin(rule.margin)}",
        "equivalent": f"; the margin is {_margin(rule.margin)} either way",
    }
    return [f"  90 % interval of the difference: {_points(interval)}{least[rule.rule]}"]


def _effect_lines(effect: Effect, p: float, rule: MetricRule | None) -> list[str]:
    if not effect.questions:
        return ["  not defined on any compared question, before and after"]
    low, high = effect.interval
    if rule is None or rule.expected == "same":
        test = "two-sided Wilcoxon"
    else:
        test = f"one-sided Wilcoxon signed-rank test for {rule.expected}, level {rule.level:g}"
    limit = ""
    if rule is not None and rule.bound is not None:
        limit = f"; the bound is ±{rule.bound * abs(effect.before):.3g} ({100 * rule.bound:g} % of before)"
    elif rule is not None and rule.minimum:
        limit = (
            f"; {'a rise' if rule.expected == 'up' else 'a fall'} of less than {rule.minimum * abs(effect.before):.3g}"
            f" ({100 * rule.minimum:g} % of before) is negligible"
        )
    return [
        f"  {effect.before:.4g} → {effect.after:.4g} ({effect.change:+.1%}), mean over"
        f" K = {effect.questions} questions; it rose on {effect.win_share:.0%} of them",
        f"  p = {p_in_words(p)} ({test})",
        f"  95 % interval of the mean difference: [{low:.3g}, {high:.3g}]{limit}",
    ]


def _group_lines(comparison: Comparison, metric: str, found: MetricOutcome) -> list[str]:
    if not comparison.group_controls:
        return []
    shifts = [
        f"{group.group} {_shift(group.shifts[metric])}" if group.shifts else f"{group.group} not measurable"
        for group in comparison.group_controls
    ]
    lines = [f"  the noise control on one group of tensors alone: {', '.join(shifts)}"]
    if found.blinded_by:
        lines.append(
            f"  on {', '.join(found.blinded_by)} alone it moves as far as the effect, and on the other groups it does "
            f"not: the control on all tensors cannot tell what the update of the other groups does"
        )
    return lines


def _supervised_lines(comparison: Comparison, metric: str) -> list[str]:
    beyond = comparison.beyond_supervised(metric)
    if beyond is None or comparison.supervised is None:
        return []
    who = f"  beyond supervised training ({comparison.supervised.checkpoint})"
    if not beyond.questions:
        return [f"{who}: not defined on any question that both comparisons have"]
    low, high = beyond.interval
    return [
        f"{who}: {beyond.difference:+.3g}, 95 % interval [{low:.3g}, {high:.3g}], on the {beyond.questions} questions"
        f" that both comparisons have"
    ]


def _control_line(comparison: Comparison, metric: str, rule: MetricRule | None) -> str:
    if not comparison.controls:
        why = ", because the verdict cannot depend on it" if comparison.noise_not_needed is not None else ""
        return f"  no noise control was measured{why}: noise of the update's size may move it as far"
    differences = [
        _shift(draw.shifts[metric]) if draw.shifts else f"not measurable ({draw.k} right answers)"
        for draw in comparison.controls
    ]
    accuracies = [f"{draw.accuracy:.3f}" for draw in comparison.controls if draw.accuracy is not None]
    answered = f"accuracy {', '.join(accuracies)}" if accuracies else "on before's answers"
    limit = ""
    if rule is not None and rule.expected != "same":
        limit = f"; the effect must lie beyond {NOISE_MARGIN:g} times each"
    moved = ", ".join(differences)
    return f"  after's readout and noise that matches the update, mean difference by draw: {moved} ({answered}){limit}"


def _shift(shift: ControlEffect) -> str:
    return "not defined" if math.isnan(shift.difference) else f"{shift.difference:+.3g}"


def _loss_line(comparison: Comparison) -> str:
    loss, ratio = comparison.effects["loss"], comparison.effects["intensity_over_loss"]
    return (
        f"  loss {loss.before:.4g} → {loss.after:.4g} ({loss.change:+.1%}), intensity / loss {ratio.change:+.1%}:"
        " raw intensity follows surprise, so read it beside the loss"
    )
