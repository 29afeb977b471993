"""Write as tables for a terminal what a planned run can detect, and what that is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tabulate import tabulate

from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.metric_power import fewest_questions
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL
from rlcircuits.release.plan import Plan
from rlcircuits.release.plan_known import ASSUMED_RATE, ENOUGH_QUESTIONS
from rlcircuits.release.plan_power import Detectable, DetectableMetric


def show_detectable(plan: Plan) -> list[str]:
    """Return the lines that say the smallest changes each pair's run detects: two tables, and notes below them."""
    accuracy = [
        [pair.name, _accuracy(pair.detectable), _rule(pair.detectable), _margins(pair.detectable)]
        for pair in plan.pairs
    ]
    metrics = [
        [
            pair.name if first else "",
            f"{pair.detectable.compared:,}" if first else "",
            metric,
            _asserted(found),
            _percent(found.change),
            _needs(found),
        ]
        for pair in plan.pairs
        for first, (metric, found) in zip(
            (True, *[False] * len(pair.detectable.metrics)), pair.detectable.metrics.items(), strict=False
        )
    ]
    lines = [
        "The smallest change that a run detects with 80 % power:",
        "",
        tabulate(accuracy, ("pair", "accuracy", "the rule", "questions that margins need"), disable_numparse=True),
        "",
    ]
    if metrics:
        headers = ("pair", "compared", "metric", "asserted", "detected from", "holds")
        align = ("left", "right", "left", "left", "right", "left")
        lines += [tabulate(metrics, headers, disable_numparse=True, colalign=align), ""]
    return [*lines, *_notes(plan)]


def _accuracy(found: Detectable) -> str:
    asked = (
        format_count(found.asked, "question") if found.answers == 1 else f"{found.asked:,} × {found.answers} answers"
    )
    fall, rise = (None if size is None else f"{100 * size:.1f}" for size in (found.fall, found.rise))
    if fall == rise:
        size = "none" if fall is None else f"{fall} points"
    else:
        size = ", ".join(
            "none " + way if size is None else f"{size} {way}" for size, way in ((fall, "down"), (rise, "up"))
        )
    return f"{asked} at a rate near {found.known.rate.value:.2f}: {size}"


def _rule(found: Detectable) -> str:
    rule = found.rule
    if rule.rule != "rose":
        return rule.rule
    least = f"rose (minimum {_points(rule.minimum)})"
    if found.rise_holds_from is None:
        return f"{least}: no rise is large enough"
    return f"{least}: holds from {_points(found.rise_holds_from)}"


def _margins(found: Detectable) -> str:
    said = []
    for each in found.margins:
        needed = "no number is enough" if each.questions is None else f"{each.questions:,}"
        short = each.questions is None or each.questions > found.asked
        said.append(f"{each.measure} within {_points(each.margin)}: {needed}{' (too few are asked)' if short else ''}")
    return "\n".join(said)


def _asserted(found: DetectableMetric) -> str:
    rule = found.rule
    if rule is None:
        return "nothing"
    if rule.bound is not None:
        return f"same, within {_percent(rule.bound)}"
    return f"{rule.expected}, minimum {_percent(rule.minimum)}"


def _needs(found: DetectableMetric) -> str:
    if found.rule is None:
        return ""
    if found.rule.bound is not None:
        return "no number is enough" if found.questions is None else f"on {found.questions:,} questions, if unchanged"
    return "never" if found.holds_from is None else f"from {_percent(found.holds_from)}"


def _points(share: float) -> str:
    size = f"{round(100 * share, 1):g}"
    return f"{size} {'point' if size == '1' else 'points'}"


def _percent(size: float | None) -> str:
    return "none" if size is None else f"{100 * size:.1f} %"


def _notes(plan: Plan) -> list[str]:
    found = [(pair.name, pair.detectable) for pair in plan.pairs]
    notes = [
        f"Accuracy by the exact one-sided test at the rule's level, by default {ACCURACY_LEVEL:g} for a fall. A margin"
        f" needs so many questions to show an accuracy that is as it should be, at level {ACCURACY_LEVEL:g}.",
        f"Metrics in % of before, by the one-sided signed-rank test at the profile's level, by default"
        f" {SIGNIFICANCE_LEVEL:g}. To hold, the interval must also be above the minimum, and above the noise control.",
    ]
    notes += _few(found)
    notes += _origins("Rate of right answers", found, lambda each: each.known.rate.origin)
    notes += _origins("Spread of the metrics", found, lambda each: each.known.spread_origin)
    if guessed := [name for name, each in found if each.known.rate.origin is None]:
        notes.append(
            f"Assumed without before's answers to {ENOUGH_QUESTIONS} questions or all: a rate of"
            f" {ASSUMED_RATE:g}{_of(guessed, len(found))}."
        )
    if guessed := [name for name, each in found if each.known.passing.origin is None]:
        notes.append(
            f"Assumed without both models' answers: as many questions to compare as before answers"
            f" right{_of(guessed, len(found))}."
        )
    if guessed := [name for name, each in found if each.known.discordant.origin is None]:
        shares = sorted({f"{100 * each.known.discordant.value:.0f} %" for name, each in found if name in guessed})
        notes.append(
            f"Assumed without both models' answers: {' or '.join(shares)} of the answers change from right to wrong"
            f" or back{_of(guessed, len(found))}."
        )
    alike = [
        name
        for name, each in found
        if each.known.variance_ratio.origin is None and any(m.measure == "claimed-accuracy" for m in each.margins)
    ]
    if alike:
        notes.append(
            "Assumed for the claimed accuracy, without answers: the answers to one question are all right or all"
            f" wrong{_of(alike, len(found))}."
        )
    if guessed := [name for name, each in found if each.known.spread_origin is None]:
        notes.append(
            "Assumed without an earlier comparison: a spread of the metrics as on the shipped pairs"
            f"{_of(guessed, len(found))}."
        )
    return notes


def _few(found: list[tuple[str, Detectable]]) -> list[str]:
    """Say which pairs have too few questions, to be compared or for any p below the level."""
    notes = []
    for name, each in found:
        if each.too_few:
            share = each.known.passing.value
            ask = f" Ask {math.ceil(each.min_questions / share):,} or more." if share else ""
            notes.append(
                f"{name}: about {each.compared} of {format_count(each.asked, 'question')} would be left to compare, and"
                f" min_questions is {each.min_questions}: the metrics cannot be compared.{ask}"
            )
        elif each.metrics and all(metric.change is None for metric in each.metrics.values()):
            notes.append(
                f"{name}: the signed-rank test cannot reach p < {SIGNIFICANCE_LEVEL:g} on"
                f" {format_count(each.compared, 'question')}; it takes {fewest_questions(SIGNIFICANCE_LEVEL)} or more."
            )
    return notes


def _origins(what: str, found: list[tuple[str, Detectable]], origin: Callable[[Detectable], str | None]) -> list[str]:
    """Say where a number is from, by its origin; nothing of the pairs for which it is assumed."""
    names: dict[str, list[str]] = {}
    for name, each in found:
        if (where := origin(each)) is not None:
            names.setdefault(where, []).append(name)
    return [f"{what}: from {where}{_of(of, len(found))}." for where, of in names.items()]


def _of(names: Iterable[str], pairs: int) -> str:
    """Name the pairs that a note is about, unless it is about all of them."""
    names = list(names)
    if len(names) == pairs:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" (of {shown})"
