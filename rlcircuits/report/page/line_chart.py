"""One curve of a tracked run as a picture: a line with a dot a step, its interval, and what noise does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.numbers import range_of, signed
from rlcircuits.report.track_curves import Curve, Point

__all__ = ["BOTTOM", "LEFT", "RIGHT", "TOP", "Chart", "Dot", "make_chart"]

LEFT, RIGHT, TOP, BOTTOM = 48, 304, 8, 172
"""Where the axes end in the view box of 320 × 200."""

_TONES = {"holds": "good", "no alarm": "good", "does not hold": "bad", "trouble": "bad", "inconclusive": "open"}


@dataclass(frozen=True)
class Dot:
    """One step of a curve, placed."""

    x: float
    y: float
    tone: str
    """``good``, ``bad``, ``open``, or ``plain`` where nothing is asserted."""
    words: str
    """The step, its value, interval and outcome."""


@dataclass(frozen=True)
class Chart:
    """A curve, in the coordinates of its view box."""

    label: str
    unit: str
    line: str
    area: str
    """Polygon of the interval, from the base on."""
    noise: str
    """Polygon of the range of the noise draws."""
    zero: float
    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def make_chart(curve: Curve, base_step: int) -> Chart:
    """Return a curve's picture, whose line begins at zero at the base's step if it is a change from the base."""
    start = (base_step,) if curve.from_base else ()
    x = Axis(*_steps_over([base_step, *(point.step for point in curve.points)]))
    y = axis_over([0.0, *(value for point in curve.points for value in _values(point))])
    places = [(x.place(step, LEFT, RIGHT), 0.0) for step in start]
    places += [(_x(x, point), point.value) for point in curve.points]
    return Chart(
        label=curve.label,
        unit=curve.unit,
        line=_corners([(px, _y(y, value)) for px, value in places]),
        area=_area(x, y, start, [(point, point.interval) for point in curve.points]),
        noise=_area(x, y, start, [(point, point.noise) for point in curve.points]),
        zero=_y(y, 0.0),
        dots=tuple(
            Dot(_x(x, point), _y(y, point.value), _TONES.get(point.outcome or "", "plain"), _words(point, curve.unit))
            for point in curve.points
        ),
        x_ticks=tuple((x.place(tick, LEFT, RIGHT), f"{tick:g}") for tick in x.ticks()),
        y_ticks=tuple((_y(y, tick), signed(tick)) for tick in y.ticks()),
    )


def _steps_over(steps: Sequence[int]) -> tuple[float, float]:
    low, high = min(steps), max(steps)
    return float(low), float(high if high > low else low + 1)


def _area(x: Axis, y: Axis, start: Sequence[int], ends: Sequence[tuple[Point, tuple[float, float] | None]]) -> str:
    known = [(_x(x, point), each) for point, each in ends if each is not None]
    if not known:
        return ""
    first = [(x.place(step, LEFT, RIGHT), _y(y, 0.0)) for step in start]
    lower = [(px, _y(y, low)) for px, (low, _) in known]
    upper = [(px, _y(y, high)) for px, (_, high) in reversed(known)]
    return _corners([*first, *lower, *upper])


def _words(point: Point, unit: str) -> str:
    interval = "" if point.interval is None else f" ({range_of(*map(signed, point.interval))})"
    noise = "" if point.noise is None else f"; noise {range_of(*map(signed, point.noise))}"
    outcome = "" if point.outcome is None else f"; {point.outcome}"
    return f"step {point.step}: {signed(point.value)} {unit}{interval}{noise}{outcome}"


def _values(point: Point) -> tuple[float, ...]:
    return (point.value, *(point.interval or ()), *(point.noise or ()))


def _x(axis: Axis, point: Point) -> float:
    return axis.place(point.step, LEFT, RIGHT)


def _y(axis: Axis, value: float) -> float:
    return axis.place(value, BOTTOM, TOP)


def _corners(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:g},{py:g}" for px, py in places)
