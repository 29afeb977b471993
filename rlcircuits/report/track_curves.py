"""Lay a tracked run out as curves: one for each measure and vital sign, with a point for each step.

Every point is a change from the base on the questions that its step was compared on, so that points of different steps
are comparable although their questions differ: accuracy in percentage points, metrics in percent of the base, vital
signs in their own unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlcircuits.comparison.comparison import CONTROL_METRICS, LABELS, Comparison
from rlcircuits.comparison.profiles import ACCURACY
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.track import Track, TrackedStep
from rlcircuits.vital_signs.gate import GATED
from rlcircuits.vital_signs.sign import Sign

__all__ = ["Curve", "Point", "measure_curves", "sign_curves"]


@dataclass(frozen=True)
class Point:
    """The change from the base at one step, in the unit of the curve."""

    step: int
    value: float
    interval: tuple[float, float] | None
    noise: tuple[float, float] | None
    """The range of zero and the noise draws' changes."""
    outcome: str | None
    """Of what is asserted of the measure, or of the sign; None where nothing is."""


@dataclass(frozen=True)
class Curve:
    """One measure along the run."""

    name: str
    label: str
    unit: str
    points: tuple[Point, ...]
    """One for each step where it is defined, in ascending order."""
    from_base: bool = True
    """Whether it is zero at the base; not so a number of the update itself, such as its rank."""

    @property
    def is_judged(self) -> bool:
        """Return whether anything is concluded from it at any step."""
        return any(point.outcome is not None for point in self.points)


def measure_curves(track: Track) -> list[Curve]:
    """Return the curves of accuracy and of the metrics; those without a point are left out."""
    accuracy = tuple(_accuracy(each) for each in track.steps)
    curves = [Curve(ACCURACY, "accuracy", "percentage points", accuracy)]
    for metric in CONTROL_METRICS:
        points = tuple(point for each in track.steps if (point := _metric(each, metric)) is not None)
        curves.append(Curve(metric, LABELS[metric], "% of the base", points))
    return [curve for curve in curves if curve.points]


def sign_curves(track: Track) -> list[Curve]:
    """Return the curves of the vital signs that are numbers, but for accuracy, which has a curve among the measures.

    Those in trouble come first, then those that may fail a gate, the others that are judged, and the rest.
    """
    found: dict[str, list[tuple[int, Sign]]] = {}
    for step, sign in _signs(track.steps):
        if sign.name != ACCURACY and sign.change is not None and math.isfinite(sign.change):
            found.setdefault(sign.name, []).append((step, sign))
    curves = [
        Curve(
            name,
            name,
            signs[0][1].unit,
            tuple(_sign_point(step, sign) for step, sign in signs),
            from_base=signs[0][1].before is not None,
        )
        for name, signs in found.items()
    ]
    return sorted(curves, key=lambda each: (not _has_trouble(each), each.name not in GATED, not each.is_judged))


def _signs(steps: Sequence[TrackedStep]) -> Iterator[tuple[int, Sign]]:
    for each in steps:
        for sign in () if each.signs is None else each.signs.signs:
            yield each.step, sign


def _accuracy(step: TrackedStep) -> Point:
    comparison, effect = step.comparison, step.comparison.accuracy
    interval = None if effect.interval is None else (100 * effect.interval[0], 100 * effect.interval[1])
    noise = [100 * (draw.accuracy - effect.before) for draw in comparison.controls if draw.accuracy is not None]
    outcome = judge(comparison).accuracy.outcome
    return Point(step.step, 100 * (effect.after - effect.before), interval, _range(noise), outcome)


def _metric(step: TrackedStep, metric: str) -> Point | None:
    comparison = step.comparison
    effect = comparison.effects[metric]
    base = abs(effect.before)
    if not effect.questions or not base:
        return None
    low, high = (100 * end / base for end in effect.interval)
    return Point(step.step, 100 * effect.change, (low, high), _noise(comparison, metric), _outcome(comparison, metric))


def _noise(comparison: Comparison, metric: str) -> tuple[float, float] | None:
    return _range([100 * draw.shifts[metric].change for draw in comparison.controls if metric in draw.shifts])


def _outcome(comparison: Comparison, metric: str) -> str | None:
    finding = judge(comparison).findings.get(metric)
    return None if finding is None or finding.expected is None else finding.outcome


def _sign_point(step: int, sign: Sign) -> Point:
    assert sign.change is not None, "those without are no points"
    interval = sign.interval if sign.interval is not None and all(map(math.isfinite, sign.interval)) else None
    judged = sign.outcome if sign.outcome in ("trouble", "no alarm") else None
    return Point(step, sign.change, interval, _range(sign.noise), judged)


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    known = [value for value in values if math.isfinite(value)]
    return (min(0.0, *known), max(0.0, *known)) if known else None


def _has_trouble(curve: Curve) -> bool:
    return any(point.outcome == "trouble" for point in curve.points)
