"""The page of two runs side by side: what changed, every difference with its interval, and how they were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.comparison.profiles import ACCURACY
from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.marks import Mark, mark_of
from rlcircuits.report.page.whole_page import fill_page, save_page
from rlcircuits.report.two_runs import MeasureDifference, PairDifference, RunDifference
from rlcircuits.report.two_runs_text import changes_line, measure_cells

__all__ = ["two_runs_html", "write_two_runs_page"]

_SCRIPTS = ("page.js", "tables.js")


@dataclass(frozen=True)
class DifferenceRow:
    """One measure, with its difference placed on the axis of its unit: percent of the axis."""

    label: str
    values: str
    difference: str
    p: str
    shared: str
    changed: str
    is_changed: bool
    words: tuple[str, str]
    not_compared: str | None
    zero: float
    at: float | None
    low: float
    high: float


@dataclass(frozen=True)
class PairBlock:
    """One pair's part of the page."""

    anchor: str
    pair: PairDifference
    marks: tuple[Mark, Mark]
    rows: tuple[DifferenceRow, ...]


def write_two_runs_page(found: RunDifference, path: str | Path) -> Path:
    """Write the page, and return the file's path."""
    return save_page(two_runs_html(found), path)


def two_runs_html(found: RunDifference) -> str:
    """Return the page as HTML."""
    return fill_page(
        "two-runs.html.jinja",
        _SCRIPTS,
        found=found,
        line=changes_line(found),
        marks=tuple(mark_of(outcome) for outcome in found.outcomes),
        pairs=[_block(pair, f"pair-{place}") for place, pair in enumerate(found.pairs, start=1)],
    )


def _block(pair: PairDifference, anchor: str) -> PairBlock:
    of_metrics = [measure for measure in pair.measures if measure.measure != ACCURACY]
    axes = {True: _axis([each for each in pair.measures if each.measure == ACCURACY]), False: _axis(of_metrics)}
    rows = tuple(_row(measure, axes[measure.measure == ACCURACY]) for measure in pair.measures)
    return PairBlock(anchor, pair, (mark_of(pair.outcomes[0]), mark_of(pair.outcomes[1])), rows)


def _axis(measures: Sequence[MeasureDifference]) -> Axis:
    numbers = [value for each in measures for value in (each.difference, each.low, each.high)]
    return axis_over([0.0, *(value for value in numbers if math.isfinite(value))])


def _row(measure: MeasureDifference, axis: Axis) -> DifferenceRow:
    label, values, difference, _, p, shared, changed = measure_cells(measure)
    known = not math.isnan(measure.difference + measure.low + measure.high)
    return DifferenceRow(
        label=label,
        values=values,
        difference=difference,
        p=p,
        shared=shared,
        changed=changed,
        is_changed=measure.changed,
        words=measure.words,
        not_compared=measure.not_compared,
        zero=axis.percent(0.0),
        at=axis.percent(measure.difference) if known else None,
        low=axis.percent(measure.low) if known else 0.0,
        high=axis.percent(measure.high) if known else 0.0,
    )
