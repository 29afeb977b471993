"""Lay a comparison out as rows of numbers, one for each measure: for CSV, for pandas, for JUnit's properties."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import ACCURACY_CONFIDENCE, AccuracyEffect
from rlcircuits.comparison.profiles import ACCURACY
from rlcircuits.comparison.verdict import judge

__all__ = ["MeasureRow", "as_csv", "measure_rows", "noise_change", "noise_points", "rows_as_csv"]

_CONFIDENCE = 0.95
"""Confidence of the intervals of metrics and circuits."""

GREEDY_ACCURACY = "greedy-accuracy"
"""Name of the row of the accuracy at temperature 0, which no verdict has a finding of."""


@dataclass(frozen=True)
class MeasureRow:
    """One measure of one pair. A number that was not measured, or that a measure does not have, is NaN."""

    pair: str
    algorithm: str
    questions: str
    """Name of the question set."""
    measure: str
    """A metric, ``accuracy``, a claim, circuits, or ``not-online-rl``, as in a :class:`~rlcircuits.Finding`; or
    ``greedy-accuracy``."""
    before: float = math.nan
    """Mean over the questions; for a claim what was claimed, for circuits the least that is asserted."""
    after: float = math.nan
    """The same of after; for a claim and circuits what was found."""
    change: float = math.nan
    """(after - before) / abs(before)."""
    low: float = math.nan
    """Lower end of the interval of after - before, in the measure's unit; for circuits, of what was found."""
    high: float = math.nan
    confidence: float = math.nan
    """Confidence of that interval, as a share."""
    noise_change: float = math.nan
    """Mean of `change` over the noise draws."""
    rose_on: float = math.nan
    """Share of the questions on which the measure rose; ties count half."""
    p: float = math.nan
    """See :attr:`rlcircuits.Finding.p`; the two-sided p of a metric without a finding."""
    expected: str | None = None
    outcome: str | None = None
    """Outcome of what is asserted of the measure; None if nothing is."""
    words: str = ""
    count: int = 0
    """Questions that the numbers are about."""
    settled_by: int | None = None
    """Questions that would settle an inconclusive outcome, if known."""
    verdict: str = ""
    """Outcome of the pair."""


def measure_rows(comparison: Comparison) -> list[MeasureRow]:
    """Return a row for each measure of a comparison: the verdict's in their order, then what is only reported.

    Raises:
        RLCircuitsError: the comparison names an unknown profile.
    """
    verdict = judge(comparison)
    numbers = _numbers(comparison)
    rows = []
    for measure, finding in verdict.all_findings.items():
        row = numbers.pop(measure, _row(comparison, measure))
        found = {name: getattr(finding, name) for name in ("p", "expected", "outcome", "words", "settled_by")}
        rows.append(replace(row, **found))
    return [replace(row, verdict=verdict.outcome) for row in (*rows, *numbers.values())]


def rows_as_csv(comparisons: Iterable[Comparison]) -> str:
    """Return the rows of several comparisons as CSV text with a line of names; an unknown value is empty."""
    names = [field.name for field in fields(MeasureRow)]
    return as_csv(names, (asdict(row) for comparison in comparisons for row in measure_rows(comparison)))


def as_csv(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as CSV text with a line of names; None and NaN are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def noise_change(comparison: Comparison, measure: str) -> float:
    """Return the relative change of accuracy or of a metric under noise, the mean over its draws; NaN without any."""
    if measure != ACCURACY:
        return _mean([control.shifts[measure].change for control in comparison.controls if measure in control.shifts])
    return _change(comparison.accuracy.before, _noise_accuracy(comparison))


def noise_points(comparison: Comparison) -> float:
    """Return the change of accuracy under noise as a difference of shares, the mean over its draws; NaN without any."""
    return _noise_accuracy(comparison) - comparison.accuracy.before


def _noise_accuracy(comparison: Comparison) -> float:
    return _mean([control.accuracy for control in comparison.controls if control.accuracy is not None])


def _numbers(comparison: Comparison) -> dict[str, MeasureRow]:
    """Return the rows of all that was measured, by measure, without their findings."""
    found = {ACCURACY: _accuracy(comparison, ACCURACY, comparison.accuracy)}
    for metric, effect in comparison.effects.items():
        low, high = effect.interval
        found[metric] = _row(
            comparison,
            metric,
            effect.before,
            effect.after,
            change=effect.change,
            low=low,
            high=high,
            confidence=_CONFIDENCE,
            noise_change=noise_change(comparison, metric),
            rose_on=effect.win_share,
            p=effect.p_two_sided,
            count=effect.questions,
        )
    for claim in comparison.claims:
        low, high = claim.interval
        row = _row(comparison, claim.measure, claim.wanted, claim.found, low=low, high=high, count=claim.asked)
        found[claim.measure] = replace(row, confidence=ACCURACY_CONFIDENCE)
    for each in () if comparison.circuits is None else comparison.circuits.assertions:
        low, high = each.interval
        row = _row(comparison, each.measure, each.least, each.found, low=low, high=high, count=comparison.k)
        found[each.measure] = replace(row, confidence=_CONFIDENCE)
    if comparison.greedy is not None:
        found[GREEDY_ACCURACY] = _accuracy(comparison, GREEDY_ACCURACY, comparison.greedy)
    return found


def _accuracy(comparison: Comparison, measure: str, effect: AccuracyEffect) -> MeasureRow:
    row = _row(comparison, measure, effect.before, effect.after, count=effect.asked)
    if measure == ACCURACY:
        row = replace(row, noise_change=noise_change(comparison, measure))
    if effect.interval is None:
        return row
    low, high = effect.interval
    return replace(row, low=low, high=high, confidence=ACCURACY_CONFIDENCE)


def _row(
    comparison: Comparison, measure: str, before: float = math.nan, after: float = math.nan, **more: Any
) -> MeasureRow:
    names = (comparison.name, comparison.algorithm, comparison.questions, measure)
    return MeasureRow(*names, before, after, **{"change": _change(before, after), **more})


def _change(before: float, after: float) -> float:
    return (after - before) / abs(before) if before else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cell(value: object) -> object:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
