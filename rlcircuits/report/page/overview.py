"""All pairs' effects at once: a forest plot for accuracy and each metric, with the pooled effects below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlcircuits.comparison.comparison import LABELS
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.data import PairData
from rlcircuits.report.page.numbers import percent, points, range_of, signed
from rlcircuits.report.pools import Pool

__all__ = ["Overview", "OverviewRow", "make_overview"]


@dataclass(frozen=True)
class _Entry:
    """One effect as a share, before it is placed."""

    label: str
    anchor: str | None
    value: float
    interval: tuple[float, float] | None
    noise: tuple[float, ...] = ()
    tone: str = ""


@dataclass(frozen=True)
class OverviewRow:
    """One pair's effect, or a pooled one; coordinates are percent of the axis."""

    label: str
    anchor: str | None
    """The pair's; None for a pooled effect."""
    value: str
    words: str
    """The value, its interval and the noise."""
    tone: str
    """Class of the pair's outcome."""
    at: float | None
    low: float | None
    high: float | None
    band: tuple[float, float] | None
    """The range of zero and the noise draws."""


@dataclass(frozen=True)
class Overview:
    """One measure of all pairs."""

    label: str
    unit: str
    zero: float
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[OverviewRow, ...]


def make_overview(pairs: Sequence[PairData], anchors: Sequence[str], pools: Sequence[Pool]) -> list[Overview]:
    """Return accuracy and the metrics of all pairs, in their order, then of the pools.

    A measure that no pair has is left out.

    Args:
        pairs: what is stored of each.
        anchors: each pair's id on the page.
        pools: effects that are pooled over some of them; accuracy has none.
    """
    accuracy = [_accuracy(pair, anchor) for pair, anchor in zip(pairs, anchors, strict=True)]
    found = [_placed("accuracy", "points, 90 % intervals", accuracy, points)]
    for metric in GATE_METRICS:
        entries = [
            entry
            for pair, anchor in zip(pairs, anchors, strict=True)
            if not math.isnan((entry := _metric(pair, anchor, metric)).value)
        ]
        if entries:
            entries += [_pooled(pool, metric) for pool in pools if metric in pool.effects]
            label = LABELS[metric].removesuffix(" (histogram)")
            found.append(_placed(label, "% of before, 95 % intervals", entries, percent))
    return found


def _accuracy(pair: PairData, anchor: str) -> _Entry:
    effect = pair.comparison.accuracy
    noise = (each.accuracy - effect.before for each in pair.comparison.controls if each.accuracy is not None)
    change = effect.after - effect.before
    return _Entry(pair.comparison.name, anchor, change, effect.interval, tuple(noise), _tone(pair))


def _metric(pair: PairData, anchor: str, metric: str) -> _Entry:
    effect = pair.comparison.effects[metric]
    base = abs(effect.before) if effect.questions else 0.0
    interval = (effect.interval[0] / base, effect.interval[1] / base) if base else None
    noise = tuple(each.shifts[metric].change for each in pair.comparison.controls if metric in each.shifts)
    change = effect.change if base else math.nan
    return _Entry(pair.comparison.name, anchor, change, interval, noise, _tone(pair))


def _pooled(pool: Pool, metric: str) -> _Entry:
    effect = pool.effects[metric]
    label = f"pooled: {pool.name} ({effect.pairs} pairs)"
    return _Entry(label, None, effect.estimate, effect.interval)


def _tone(pair: PairData) -> str:
    return {"holds": "good", "does not hold": "bad"}.get(pair.verdict.outcome, "open")


def _placed(label: str, unit: str, entries: Sequence[_Entry], write: object) -> Overview:
    assert callable(write)
    axis = axis_over([0.0, *_all(entries)])
    ticks = tuple((axis.percent(tick), signed(round(100 * tick, 6))) for tick in axis.ticks(4))
    return Overview(label, unit, axis.percent(0.0), ticks, tuple(_row(axis, entry, write) for entry in entries))


def _all(entries: Iterable[_Entry]) -> list[float]:
    return [value for entry in entries for value in (entry.value, *(entry.interval or ()), *entry.noise)]


def _row(axis: Axis, entry: _Entry, write: object) -> OverviewRow:
    assert callable(write)
    noise = [each for each in entry.noise if math.isfinite(each)]
    low, high = entry.interval or (math.nan, math.nan)
    known = not math.isnan(low + high)
    value = write(entry.value)
    words = f"{value}, interval {range_of(write(low), write(high))}" if known else f"{value}, no interval"
    if noise:
        words += f"; noise {range_of(write(min(noise)), write(max(noise)))}"
    return OverviewRow(
        label=entry.label,
        anchor=entry.anchor,
        value=value,
        words=words,
        tone=entry.tone,
        at=None if math.isnan(entry.value) else axis.percent(entry.value),
        low=axis.percent(low) if known else None,
        high=axis.percent(high) if known else None,
        band=(axis.percent(min(0.0, *noise)), axis.percent(max(0.0, *noise))) if noise else None,
    )
