"""Write as a table for a terminal what a planned run can detect, and what that assumes."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL
from rlcircuits.release.plan import Plan
from rlcircuits.release.plan_power import ASSUMED_RATE, MARGIN, Detectable


def show_detectable(plan: Plan) -> list[str]:
    """Return the lines that say the smallest changes each pair's run detects: a table, and notes below it."""
    margin = f"{100 * MARGIN:g}-point margin"
    headers = ("pair", "accuracy", margin, "compared", *GATE_METRICS)
    rows = [
        [
            pair.name,
            _accuracy(pair.detectable),
            _questions(pair.detectable),
            f"{pair.detectable.compared:,}",
            *(_percent(pair.detectable.metrics.get(metric)) for metric in GATE_METRICS),
        ]
        for pair in plan.pairs
    ]
    align = ("left", "left", *["right"] * (len(headers) - 2))
    table = tabulate(rows, headers, disable_numparse=True, colalign=align if rows else None)
    return ["The smallest change that a run detects with 80 % power:", "", table, "", *_notes(plan)]


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
    return f"{asked} at a rate near {found.rate:.2f}: {size}"


def _questions(found: Detectable) -> str:
    return "no number" if found.margin_questions is None else f"{found.margin_questions:,} questions"


def _percent(size: float | None) -> str:
    return "" if size is None else f"{100 * size:.1f} %"


def _notes(plan: Plan) -> list[str]:
    found = [(pair.name, pair.detectable) for pair in plan.pairs]
    notes = [
        f"Accuracy by the exact one-sided test at level {ACCURACY_LEVEL:g}. The margin is how many questions show an"
        f" unchanged model to be at most {100 * MARGIN:g} points worse, at the same level.",
        f"Metrics in % of before, by the one-sided signed-rank test at level {SIGNIFICANCE_LEVEL:g}. An effect must"
        " exceed the noise control as well.",
    ]
    if guessed := [name for name, each in found if not each.rate_is_known]:
        notes.append(
            f"Assumed for want of before's answers: a rate of {ASSUMED_RATE:g}, and as many questions to compare as"
            f" before answers right{_of(guessed, len(found))}."
        )
    if guessed := [name for name, each in found if not each.discordant_is_known]:
        shares = sorted({f"{100 * each.discordant:.0f} %" for _, each in found if not each.discordant_is_known})
        notes.append(
            f"Assumed for want of both models' answers: {' or '.join(shares)} of the answers change from right to wrong"
            f" or back{_of(guessed, len(found))}."
        )
    if guessed := [name for name, each in found if not each.spread_is_known]:
        notes.append(
            "Assumed for want of an earlier comparison: a spread of the metrics as on the shipped pairs"
            f"{_of(guessed, len(found))}."
        )
    return notes


def _of(names: Iterable[str], pairs: int) -> str:
    """Name the pairs that a note is about, unless it is about all of them."""
    names = list(names)
    if len(names) == pairs:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" (of {shown})"
