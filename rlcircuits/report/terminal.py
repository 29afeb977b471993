"""Comparisons as one plain table for a terminal, a row a measure and a block a pair."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tabulate import SEPARATING_LINE, tabulate

from rlcircuits.comparison import LABELS, Comparison, Effect, Group
from rlcircuits.expectations import GATE_METRICS, Finding, Verdict, direction, judge
from rlcircuits.pairing import show_funnel

HEADERS = ("pair", "K", "measure", "before → after", "change", "rose on", "p", "verdict")


def summary_table(comparisons: Iterable[Comparison]) -> str:
    """Accuracy, loss and the three metrics of every pair, with each pair's verdict in its first row.

    `rose on` is the share of questions on which the measure rose. Loss is shown since intensity follows it.
    """
    rows: list[list[str] | str] = []
    for comparison in comparisons:
        if rows:
            rows.append(SEPARATING_LINE)
        rows += _block(comparison)
    return _table(rows, HEADERS)


def detail(comparison: Comparison) -> str:
    """Write what the summary leaves out of a pair: how questions were chosen, the explaining metrics."""
    lines = [
        f"before: {comparison.before}",
        f"after:  {comparison.after} ({comparison.algorithm})",
        f"questions: {comparison.questions} ({comparison.split})",
        f"  {show_funnel(comparison.funnel)}",
        f"scored: the first {comparison.t_cut} answer tokens (reference length {comparison.ref:.1f}),"
        f" {comparison.granularity} graph",
    ]
    if comparison.note:
        lines.append(f"note: {comparison.note}")
    explaining = [
        [
            LABELS[metric],
            *_numbers(effect),
            format_p(effect.p_two_sided),
            direction(effect) or "no clear change",
        ]
        for metric, effect in comparison.effects.items()
        if metric not in (*GATE_METRICS, "loss")
    ]
    groups = [
        [f"intensity into {name}", arrow(group.before, group.after), format_change(group.before, group.after)]
        for name, group in (*comparison.by_reader_kind.items(), *_bands(comparison))
    ]
    headers = (
        "to explain them (reported)",
        "before → after",
        "change",
        "rose on",
        "p, two-sided",
        "direction",
    )
    return "\n".join([*lines, "", _table([*explaining, *groups], headers)])


def arrow(before: float, after: float, style: str = "#.3g") -> str:
    """``0.0274 → 0.0316``."""
    return f"{_plain(before, style)} → {_plain(after, style)}"


def format_change(before: float, after: float) -> str:
    """``+15.3 %``, and nothing where there is nothing to be relative to."""
    if not before or math.isnan(before) or math.isnan(after):
        return ""
    return f"{(after - before) / abs(before):+.1%}".replace("%", " %")


def format_p(p: float) -> str:
    """Two digits, and a power of ten where it is small."""
    return f"{p:.2f}" if p >= 0.01 else f"{p:.0e}"


def _block(comparison: Comparison) -> list[list[str] | str]:
    verdict = judge(comparison)
    accuracy, loss = comparison.accuracy, comparison.effects["loss"]
    rows: list[list[str] | str] = [
        _effect_row(comparison.effects[metric], verdict.findings[metric]) for metric in GATE_METRICS
    ]
    rows.insert(
        0,
        [
            "accuracy",
            arrow(accuracy.before, accuracy.after, ".3f"),
            format_change(accuracy.before, accuracy.after),
            "",
            format_p(verdict.accuracy.p),
            verdict.accuracy.words,
        ],
    )
    rows.insert(
        1,
        [
            "loss",
            *_numbers(loss),
            format_p(loss.p_two_sided),
            f"{direction(loss) or 'no clear change'} (reported)",
        ],
    )
    rows.append(["verdict", "", "", "", "", _verdict(verdict)])
    first = [[comparison.name, str(comparison.k)], [f"  {comparison.algorithm}", ""]]
    heads = first + [["", ""]] * (len(rows) - len(first))
    return [[*head, *row] for head, row in zip(heads, rows, strict=True)]


def _verdict(verdict: Verdict) -> str:
    # Which measures failed, their own rows say.
    if not verdict.holds:
        return "does not hold"
    return "holds" if verdict.profile.expected else "holds (asserts accuracy only)"


def _effect_row(effect: Effect, finding: Finding) -> list[str]:
    return [effect.metric, *_numbers(effect), format_p(finding.p), finding.words]


def _numbers(effect: Effect) -> list[str]:
    rose = "" if math.isnan(effect.win_share) else f"{effect.win_share:.0%}".replace("%", " %")
    return [arrow(effect.before, effect.after), format_change(effect.before, effect.after), rose]


def _bands(comparison: Comparison) -> list[tuple[str, Group]]:
    return [(f"{band} layers", group) for band, group in comparison.by_layer_band.items()]


def _plain(value: float, style: str) -> str:
    return "undefined" if math.isnan(value) else format(value, style).rstrip(".")


def _table(rows: list[list[str] | str], headers: tuple[str, ...]) -> str:
    aligned = ["right" if header in ("K", "change", "rose on") else "left" for header in headers]
    return tabulate(rows, headers, tablefmt="simple", colalign=aligned, disable_numparse=True)
