"""Write comparisons as text tables, with one row for each measure and one block of rows for each pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tabulate import SEPARATING_LINE, tabulate

from rlcircuits.checkpoints.weight_change_lines import evidence_lines, weight_change_lines
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.comparison import (
    LABELS,
    Comparison,
    ControlDraw,
    Group,
    GroupControl,
    SupervisedControl,
)
from rlcircuits.comparison.effects import AccuracyEffect, Effect
from rlcircuits.comparison.funnel import show_funnel
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.significance import ACCURACY_LEVEL, format_p
from rlcircuits.comparison.verdict import direction, judge, noise_reads_as_online_rl
from rlcircuits.graph.how_scored import changed_in_words
from rlcircuits.report.circuit_lines import circuit_lines
from rlcircuits.report.engine_words import engine_words
from rlcircuits.report.measure_rows import noise_change, noise_points
from rlcircuits.report.outcome_words import finding_words, verdict_words

HEADERS = ("pair", "measure", "before → after", "change", "control", "rose on", "p", "verdict")

SHORT = {"intensity_over_loss": "int. / loss"}
"""Shorter names of metrics, for the column of measures."""


@validate_arguments
def summary_table(comparisons: Iterable[Comparison], tablefmt: str = "simple") -> str:
    """Return a table of every pair's accuracy, loss, metrics and verdict.

    Changes of accuracy are in percentage points (``pts``), those of metrics in percent of before. The column `control`
    is the change that noise which matches the update makes, on average over its draws. `rose on`
    is the share of questions on which the measure rose. The row `greedy acc.` is accuracy at temperature 0. The loss
    and intensity / loss are shown because raw intensity follows the loss. The row of a claim about accuracy, or of
    circuits, goes from what was asserted to what was found.

    Args:
        comparisons: what to show, in this order.
        tablefmt: the format of the library tabulate, such as ``simple``, ``github`` or ``html``.
    """
    rows: list[list[str] | str] = []
    for comparison in comparisons:
        if rows and tablefmt == "simple":
            rows.append(SEPARATING_LINE)
        rows += summary_rows(comparison)
    return _table(rows, HEADERS, tablefmt)


def summary_rows(comparison: Comparison) -> list[list[str]]:
    """Return one pair's rows of :func:`summary_table`, a list of cells each."""
    verdict = judge(comparison)
    accuracy = comparison.accuracy
    rows = [
        [
            "accuracy",
            arrow(accuracy.before, accuracy.after, ".3f"),
            format_points(accuracy.after - accuracy.before),
            format_points(noise_points(comparison)),
            "",
            format_p(verdict.accuracy.p),
            finding_words(verdict, verdict.accuracy),
        ]
    ]
    if comparison.greedy is not None:
        rows.append(_greedy_row(comparison.greedy))
    for claim, claimed in zip(comparison.claims, verdict.claims, strict=True):
        cells = arrow(claim.wanted, claim.found, ".3f"), format_points(claim.found - claim.wanted)
        rows.append([claim.measure, *cells, "", "", format_p(claimed.p), finding_words(verdict, claimed)])
    asserted = () if comparison.circuits is None else comparison.circuits.assertions
    for each, judged in zip(asserted, verdict.circuits, strict=True):
        cells = arrow(each.least, each.found, ".2f"), format_change(each.least, each.found)
        rows.append([each.measure, *cells, "", "", format_p(judged.p), finding_words(verdict, judged)])
    for metric in ("loss", "intensity", "intensity_over_loss", "complexity", "kurtosis"):
        finding = verdict.findings.get(metric)
        effect = comparison.effects[metric]
        p, words = (finding.p, finding_words(verdict, finding)) if finding else (effect.p_two_sided, _reported(effect))
        moved, change, rose = _numbers(effect)
        noised = format_share(noise_change(comparison, metric))
        rows.append([SHORT.get(metric, metric), moved, change, noised, rose, format_p(p), words])
    rows.append(["verdict", "", "", "", "", "", verdict_words(verdict)])
    size = f"K = {comparison.k}" + (f", n = {comparison.n}" if comparison.n > 1 else "")
    heads = [comparison.name, f"  {comparison.algorithm}, {size}", f"  {comparison.questions}"]
    heads += [""] * (len(rows) - len(heads))
    return [[head, *row] for head, row in zip(heads, rows, strict=True)]


def detail(comparison: Comparison) -> str:
    """Return what the summary leaves out of a pair.

    That is how questions were chosen, what differs between the checkpoints, the controls and the explaining metrics.
    """
    lines = [
        f"before: {comparison.before}",
        f"after:  {comparison.after} ({comparison.algorithm}, held against {comparison.profile})",
        f"questions: {comparison.questions} ({comparison.split}), answers by {engine_words(comparison)}"
        f"{_answers(comparison)}",
        f"  {show_funnel(comparison.funnel)}",
        f"  dropped, by stage: {_dropped(comparison)}",
    ]
    if comparison.unfinished is not None:
        longest = comparison.sampling.get("max_new_tokens", "not known")
        lines.append(f"  unfinished: {comparison.unfinished.words} (no end token; max_new_tokens = {longest})")
    how = "".join(f", {each}" for each in changed_in_words(comparison.scoring or {}))
    lines.append(f"scored: {_scored(comparison)}, {comparison.granularity} graph{how}")
    if comparison.note:
        lines.append(f"note: {comparison.note}")
    if comparison.trust_remote_code:
        lines.append("note: Python code of the checkpoints' own repositories was allowed to run (trust_remote_code)")
    lines += [f"differs: {difference}" for difference in comparison.differences]
    if comparison.weights is not None:
        lines += evidence_lines(comparison.weights)
        first, *others = weight_change_lines(comparison.weights)
        lines += [f"weights: {first}", *(f"  {line}" for line in others)]
    not_needed = comparison.noise_not_needed
    lines += [_control_line(comparison, control) for control in comparison.controls] or (
        [] if not_needed is not None else ["no noise control was measured"]
    )
    lines += [_group_control_line(control) for control in comparison.group_controls]
    lines += [] if not_needed is None else [f"noise {not_needed.words}"]
    if comparison.supervised is not None:
        lines.append(_supervised_line(comparison, comparison.supervised))
    if comparison.circuits is not None:
        lines += circuit_lines(comparison.circuits)
    explaining = [
        [
            LABELS[metric],
            *_numbers(effect),
            format_p(effect.p_two_sided),
            direction(effect) or "no clear change",
        ]
        for metric, effect in comparison.effects.items()
        if metric not in (*GATE_METRICS, "loss", "intensity_over_loss")
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


SCORED = {
    "own": "each model's own answers",
    "before": "before's answers, by both models",
    "after": "after's answers, by both models",
    "gold": "the gold answers, by both models",
}
"""Description of whose answers were scored, for each choice of `score_on`."""


def _scored(comparison: Comparison) -> str:
    if not comparison.is_measured:
        return "nothing"
    length = f"(reference length {comparison.ref:.1f})"
    return f"the first {comparison.t_cut} tokens of {SCORED[comparison.score_on]} {length}"


def variants_table(comparisons: Sequence[Comparison]) -> str:
    """Return a table with one row for each variant of a pair.

    Args:
        comparisons: comparisons of one pair that differ in whose answers are scored; see
            :func:`rlcircuits.release.run.run_variants`.
    """
    rows: list[list[str] | str] = []
    for comparison in comparisons:
        verdict = judge(comparison)
        cells = []
        for metric in ("loss", *GATE_METRICS):
            effect = comparison.effects[metric]
            finding = verdict.findings.get(metric)
            p = finding.p if finding else effect.p_two_sided
            cells.append(f"{format_change(effect.before, effect.after)} (p {format_p(p)})")
        rows.append([SCORED[comparison.score_on], *cells, verdict_words(verdict)])
    return _table(rows, ("scored", "loss", *GATE_METRICS, "verdict"))


def arrow(before: float, after: float, style: str = "#.3g") -> str:
    """Return a change as ``0.0274 → 0.0316``."""
    return f"{_plain(before, style)} → {_plain(after, style)}"


def format_change(before: float, after: float) -> str:
    """Return a relative change as ``+15.3 %``; empty if `before` is zero or either value is NaN."""
    if not before or math.isnan(before) or math.isnan(after):
        return ""
    return format_share((after - before) / abs(before))


def _answers(comparison: Comparison) -> str:
    return "" if comparison.n == 1 else f", {comparison.n} to every question; a question's value is their mean"


def _dropped(comparison: Comparison) -> str:
    counts = {stage: len(ids) for stage, ids in comparison.dropped.items() if ids and stage != "sampled"}
    return ", ".join(f"{stage} {count}" for stage, count in counts.items()) or "nothing"


def _control_line(comparison: Comparison, control: ControlDraw) -> str:
    answered = "before's answers" if control.accuracy is None else f"accuracy {control.accuracy:.3f}"
    line = f"noise draw {control.draw}: {answered}, {control.k} of the questions compared"
    if not control.shifts:
        return f"{line}, too few to measure"
    moved = ", ".join(f"{metric} {format_share(control.shifts[metric].change)}" for metric in ("loss", *GATE_METRICS))
    alarm = "; by itself it shows the study's pattern" if noise_reads_as_online_rl(comparison, control) else ""
    return f"{line}: {moved}{alarm}"


def _group_control_line(control: GroupControl) -> str:
    line = "after's unembedding alone" if control.group == "unembedding" else f"noise on {control.group} alone"
    if not control.shifts:
        return f"{line}: not measured"
    return f"{line}: {', '.join(f'{metric} {format_share(control.shifts[metric].change)}' for metric in GATE_METRICS)}"


def _supervised_line(comparison: Comparison, control: SupervisedControl) -> str:
    moved = [
        f"{metric} {format_change(base := abs(comparison.effects[metric].before), base + beyond.difference)}"
        for metric, beyond in control.beyond.items()
        if not math.isnan(beyond.difference)
    ]
    shared = format_count(max(beyond.questions for beyond in control.beyond.values()), "question")
    return (
        f"supervised control {control.checkpoint}: accuracy {control.accuracy:.3f}; beyond its own effects, on the "
        f"{shared} that both comparisons have: {', '.join(moved) or 'nothing is defined'}"
    )


def _reported(effect: Effect) -> str:
    return f"{direction(effect) or 'no clear change'} (reported)" if effect.questions else "not measured"


def _greedy_row(found: AccuracyEffect) -> list[str]:
    """Return the row of the accuracy at temperature 0, with the p of the direction in which it went."""
    rose = found.after > found.before
    p = found.p_rise if rose else found.p_fall
    went = "no clear change" if p >= ACCURACY_LEVEL else "rose" if rose else "fell"
    cells = arrow(found.before, found.after, ".3f"), format_points(found.after - found.before)
    return ["greedy acc.", *cells, "", "", format_p(p), f"{went} (reported)"]


def _numbers(effect: Effect) -> list[str]:
    rose = "" if math.isnan(effect.win_share) else f"{effect.win_share:.0%}".replace("%", " %")
    return [arrow(effect.before, effect.after), format_change(effect.before, effect.after), rose]


def format_share(share: float) -> str:
    """Return a relative change as ``+15.3 %``; empty if it is NaN."""
    return "" if math.isnan(share) else f"{share:+.1%}".replace("%", " %")


def format_points(difference: float, unit: str = "pts") -> str:
    """Return a difference of accuracies as percentage points, ``+8.3 pts``; empty if it is NaN."""
    return "" if math.isnan(difference) else f"{100 * difference:+.1f} {unit}"


def _bands(comparison: Comparison) -> list[tuple[str, Group]]:
    return [(f"{band} layers", group) for band, group in comparison.by_layer_band.items()]


def _plain(value: float, style: str) -> str:
    return "undefined" if math.isnan(value) else format(value, style).rstrip(".")


def _table(rows: Sequence[list[str] | str], headers: tuple[str, ...], tablefmt: str = "simple") -> str:
    aligned = ["right" if header in ("change", "control", "rose on") else "left" for header in headers]
    return tabulate(rows, headers, tablefmt=tablefmt, colalign=aligned, disable_numparse=True)
