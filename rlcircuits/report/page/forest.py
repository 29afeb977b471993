"""The forest plots: every effect with its interval, and what noise draws do, on one axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rlcircuits.comparison.comparison import LABELS, Comparison
from rlcircuits.comparison.effects import AccuracyEffect
from rlcircuits.comparison.significance import p_in_words
from rlcircuits.comparison.verdict import Verdict
from rlcircuits.report.outcome_words import finding_words
from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.marks import Mark, mark_of
from rlcircuits.report.page.numbers import percent, points, range_of, signed

__all__ = ["Forest", "Row", "accuracy_forest", "metric_forest"]


@dataclass(frozen=True)
class _Entry:
    """One effect, before it is placed on an axis."""

    label: str
    value: float
    interval: tuple[float, float] | None
    noise: tuple[float, ...] = ()
    words: str = ""
    mark: Mark | None = None
    limit: float | None = None
    """A margin or a minimum that the interval is held against."""
    p: float | None = None

    @property
    def numbers(self) -> tuple[float, ...]:
        ends = self.interval or ()
        return (self.value, *ends, *self.noise, *(() if self.limit is None else (self.limit,)))


@dataclass(frozen=True)
class Row:
    """One effect, placed: coordinates are percent of the axis."""

    label: str
    value: str
    interval: str
    words: str
    mark: Mark | None
    noise_words: str
    p: str
    at: float | None
    low: float | None
    high: float | None
    noise: tuple[float, ...]
    band: tuple[float, float] | None
    """The range of the noise draws."""
    limit: float | None


@dataclass(frozen=True)
class Forest:
    """Effects on one axis."""

    title: str
    unit: str
    confidence: str
    zero: float
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[Row, ...]


def accuracy_forest(comparison: Comparison, verdict: Verdict) -> Forest:
    """Return the change of accuracy and the claims about it, in percentage points."""
    effect, finding = comparison.accuracy, verdict.accuracy
    entries = [
        _Entry(
            f"accuracy {effect.before:.3f} → {effect.after:.3f}",
            effect.after - effect.before,
            effect.interval,
            tuple(each.accuracy - effect.before for each in comparison.controls if each.accuracy is not None),
            finding_words(verdict, finding),
            None if finding.outcome is None else mark_of(finding.outcome),
            p=finding.p,
        )
    ]
    if comparison.greedy is not None:
        entries.append(_greedy(comparison.greedy))
    for claim, found in zip(comparison.claims, verdict.claims, strict=True):
        whose = "the claimed" if claim.reference is None else f"{claim.reference}'s"
        entries.append(
            _Entry(
                f"after against {whose} {claim.wanted:.3f}: {claim.found:.3f}",
                claim.found - claim.wanted,
                claim.interval,
                (),
                finding_words(verdict, found),
                None if found.outcome is None else mark_of(found.outcome),
                limit=-claim.margin,
                p=found.p,
            )
        )
    return _placed("Accuracy", "percentage points", "90 %", entries, points)


def metric_forest(comparison: Comparison, verdict: Verdict) -> Forest:
    """Return the change of every metric, in percent of before's mean."""
    entries = []
    for metric, effect in comparison.effects.items():
        finding, base = verdict.findings.get(metric), abs(effect.before)
        if not effect.questions or not base:
            continue
        mark = None if finding is None or finding.outcome is None or finding.expected is None else finding.outcome
        entries.append(
            _Entry(
                LABELS.get(metric, metric),
                effect.change,
                (effect.interval[0] / base, effect.interval[1] / base),
                tuple(each.shifts[metric].change for each in comparison.controls if metric in each.shifts),
                finding_words(verdict, finding) if finding else "reported",
                None if mark is None else mark_of(mark),
                p=finding.p if finding else effect.p_two_sided,
            )
        )
        beyond = comparison.beyond_supervised(metric) if comparison.supervised and finding else None
        if beyond is not None and not math.isnan(beyond.difference):
            ends = (beyond.interval[0] / base, beyond.interval[1] / base)
            entries.append(_Entry("… beyond supervised training", beyond.difference / base, ends))
    return _placed("Metrics of the circuits", "percent of before", "95 %", entries, percent)


def _greedy(effect: AccuracyEffect) -> _Entry:
    label = f"at temperature 0: {effect.before:.3f} → {effect.after:.3f}"
    return _Entry(label, effect.after - effect.before, effect.interval, (), "reported")


def _placed(title: str, unit: str, confidence: str, entries: list[_Entry], write: object) -> Forest:
    assert callable(write)
    axis = axis_over([0.0, *_all(entries)])
    ticks = tuple((axis.percent(tick), signed(round(100 * tick, 6))) for tick in axis.ticks())
    rows = tuple(_row(axis, entry, write) for entry in entries)
    return Forest(title, unit, confidence, axis.percent(0.0), ticks, rows)


def _all(entries: Iterable[_Entry]) -> list[float]:
    return [value for entry in entries for value in entry.numbers]


def _row(axis: Axis, entry: _Entry, write: object) -> Row:
    assert callable(write)
    noise = tuple(draw for draw in entry.noise if math.isfinite(draw))
    low, high = entry.interval or (math.nan, math.nan)
    known = not math.isnan(low + high)
    return Row(
        label=entry.label,
        value=write(entry.value),
        interval=range_of(write(low), write(high)) if known else "not known",
        words=entry.words,
        mark=entry.mark,
        noise_words=range_of(write(min(noise)), write(max(noise))) if noise else "not measured",
        p="" if entry.p is None or math.isnan(entry.p) else p_in_words(entry.p),
        at=None if math.isnan(entry.value) else axis.percent(entry.value),
        low=axis.percent(low) if known else None,
        high=axis.percent(high) if known else None,
        noise=tuple(axis.percent(draw) for draw in noise),
        band=(axis.percent(min(0.0, *noise)), axis.percent(max(0.0, *noise))) if noise else None,
        limit=None if entry.limit is None else axis.percent(entry.limit),
    )
