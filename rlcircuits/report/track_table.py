"""Write a tracked run as a table in the terminal, a row a step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tabulate import tabulate

from rlcircuits.common.reprs import format_count
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.track import Track, TrackedStep
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.terminal import format_share

__all__ = ["step_line", "track_table", "trouble_of"]

_HEADERS = ("step", "accuracy", "points", *GATE_METRICS, "loss", "compared", "signs in trouble", "verdict")

_NAMED = 2
"""Most signs that a row names."""


def track_table(track: Track) -> str:
    """Return a row for each step, the base's first; below it the steps that could not be measured.

    Accuracy is the share of right answers, with its change in percentage points and the 90 % interval of that. Metrics
    are changes in percent of the base.
    """
    rows = [_row(each) for each in track.steps]
    table = tabulate(
        [_base_row(track), *rows],
        _HEADERS,
        disable_numparse=True,
        colalign=("right",) * (len(_HEADERS) - 2) + ("left", "left"),
    )
    lines = [f"base: {track.base}", table]
    lines += [f"step {each.step}: {each.failure.message}" for each in track.unmeasured]
    return "\n".join(lines)


def step_line(step: TrackedStep) -> str:
    """Return a step in one line, for a log."""
    comparison = step.comparison
    moved = ", ".join(f"{metric} {_metric(comparison, metric) or 'not measured'}" for metric in GATE_METRICS)
    accuracy = f"accuracy {comparison.accuracy.before:.3f} → {comparison.accuracy.after:.3f}"
    signs = trouble_of(step)
    in_trouble = f"; signs in trouble: {', '.join(signs)}" if signs else ""
    return f"step {step.step}: {accuracy}, {moved}; {verdict_words(judge(comparison))}{in_trouble}"


def trouble_of(step: TrackedStep) -> list[str]:
    """Return the names of a step's vital signs that are in trouble."""
    return [] if step.signs is None else [sign.name for sign in step.signs.signs if sign.outcome == "trouble"]


def _base_row(track: Track) -> list[str]:
    blank = [""] * (len(_HEADERS) - 2)
    if not track.steps:
        return ["base", "", *blank]
    return ["base", f"{track.steps[0].comparison.accuracy.before:.3f}", *blank]


def _row(step: TrackedStep) -> list[str]:
    comparison = step.comparison
    accuracy = comparison.accuracy
    points = f"{100 * (accuracy.after - accuracy.before):+.1f}"
    if accuracy.interval is not None:
        low, high = (100 * end for end in accuracy.interval)
        points += f" [{low:+.1f}, {high:+.1f}]"
    return [
        str(step.step),
        f"{accuracy.after:.3f}",
        points,
        *(_metric(comparison, metric) for metric in (*GATE_METRICS, "loss")),
        str(comparison.k),
        _names(trouble_of(step), step),
        verdict_words(judge(comparison)),
    ]


def _metric(comparison: Comparison, metric: str) -> str:
    change = comparison.effects[metric].change
    return "" if math.isnan(change) else format_share(change)


def _names(names: Sequence[str], step: TrackedStep) -> str:
    if step.signs is None:
        return "not measured"
    shown, left = ", ".join(names[:_NAMED]), len(names) - _NAMED
    return shown if left <= 0 else f"{shown} and {format_count(left, 'other')}"
