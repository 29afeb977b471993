"""Explain a verdict's findings: the numbers that a failed test shows, one short paragraph a finding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlcircuits.comparison.profiles import ACCURACY, ONLINE_RL, Direction
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL, p_in_words

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.effects import Effect


def explain_effect(comparison: Comparison, metric: str, expected: Direction | None, p: float, words: str) -> str:
    """Explain the finding on one metric.

    Args:
        comparison: what was measured.
        metric: the metric's name.
        expected: the asserted direction; None if it is only reported.
        p: p-value of the finding, one-sided for an asserted direction, else two-sided.
        words: the finding in words.
    """
    return "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {metric}: {words}",
            *_effect_lines(comparison.effects[metric], p, expected),
            _control_line(comparison, metric),
            _loss_line(comparison),
        ]
    )


def explain_accuracy(comparison: Comparison, words: str) -> str:
    """Explain the finding on accuracy, which `words` names."""
    effect = comparison.accuracy
    if comparison.n == 1:
        asked, moved, test = "", f"{effect.lost} lost, {effect.gained} gained", "McNemar"
    else:
        asked, test = f", {comparison.n} answers to each", "sign"
        moved = f"the share of right ones fell on {effect.lost} and rose on {effect.gained}"
    return "\n".join(
        [
            f"{comparison.name} ({comparison.algorithm}), {ACCURACY}: {words}",
            f"  {effect.before:.3f} → {effect.after:.3f} on {effect.asked} questions{asked}: {moved}",
            f"  p = {p_in_words(effect.p_fall)} (one-sided exact {test} test for a fall, level {ACCURACY_LEVEL:g})",
        ]
    )


def explain_not_online_rl(
    comparison: Comparison, counted: Mapping[str, bool], p: Mapping[str, float], words: str
) -> str:
    """Explain the finding that a pair does, or does not, look like online RL.

    Args:
        comparison: what was measured.
        counted: by metric, whether its effect counts in online RL's direction.
        p: by metric, the one-sided p-value in that direction.
        words: the finding in words.
    """
    lines = [f"{comparison.name} ({comparison.algorithm}) is {words}"]
    for metric, towards in ONLINE_RL.items():
        verb = "counts" if counted[metric] else "does not count"
        lines += [
            f"  {metric}: {verb} as {towards}",
            *(f"  {line}" for line in _effect_lines(comparison.effects[metric], p[metric], towards)),
            f"  {_control_line(comparison, metric)}",
        ]
    return "\n".join([*lines, _loss_line(comparison)])


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
    differences = [
        f"{draw.shifts[metric].difference:+.3g}" if draw.shifts else f"not measurable ({draw.k} right answers)"
        for draw in comparison.controls
    ]
    accuracies = ", ".join(f"{draw.accuracy:.3f}" for draw in comparison.controls)
    return f"  noise of the update's norm, mean difference by draw: {', '.join(differences)} (accuracy {accuracies})"


def _loss_line(comparison: Comparison) -> str:
    loss, ratio = comparison.effects["loss"], comparison.effects["intensity_over_loss"]
    return (
        f"  loss {loss.before:.4g} → {loss.after:.4g} ({loss.change:+.1%}), intensity / loss {ratio.change:+.1%}:"
        " raw intensity follows surprise, so read it beside the loss"
    )
