"""One plot a metric: each question's value before and after, with the mean, its interval and the noise draws.

Above the diagonal the metric rose. All points are one path, a tenth of the size of a circle each; the script knows the
values and shows the question under the pointer or the arrow keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlcircuits.comparison.comparison import LABELS, Comparison
from rlcircuits.comparison.effects import Effect
from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.data import Missing
from rlcircuits.report.page.numbers import number, percent, range_of, share

__all__ = ["BOTTOM", "LEFT", "RIGHT", "SHOWN", "TOP", "PairedPlot", "make_paired_plots"]

SHOWN = ("intensity", "complexity", "kurtosis", "loss", "intensity_over_loss")
"""The metrics that have a plot."""

LEFT, RIGHT, TOP, BOTTOM = 46, 312, 8, 262
"""The plot's area in a view box of 320 × 300."""


@dataclass(frozen=True)
class Tick:
    """A tick of both axes."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class PairedPlot:
    """One metric's plot, in the coordinates of its view box."""

    metric: str
    label: str
    summary: str
    axis: Axis
    ticks: tuple[Tick, ...]
    rose: str
    """Path of the questions on which the metric rose."""
    others: str
    """Path of the other questions."""
    mean: tuple[float, float]
    interval: tuple[float, float] | None
    """Where the interval of after's mean lies on the vertical axis."""
    noise: tuple[float, ...]
    """Where each noise draw's mean lies on the vertical axis."""


def make_paired_plots(comparison: Comparison) -> list[PairedPlot] | Missing:
    """Return the plots of a pair; missing if no question was compared."""
    found = [_plot(comparison, comparison.effects[metric]) for metric in SHOWN if comparison.effects[metric].questions]
    return found or Missing("No question was compared, so that there is no metric to plot.")


def _plot(comparison: Comparison, effect: Effect) -> PairedPlot:
    both = [
        (x, y)
        for x, y in zip(effect.before_values, effect.after_values, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    low, high = (effect.before + end for end in effect.interval)
    shifts = [each.shifts[effect.metric].difference for each in comparison.controls if effect.metric in each.shifts]
    noise = [effect.before + shift for shift in shifts if math.isfinite(shift)]
    axis = axis_over([value for point in both for value in point])
    return PairedPlot(
        metric=effect.metric,
        label=LABELS[effect.metric],
        summary=(
            f"{number(effect.before)} → {number(effect.after)}, {percent(effect.change)}; rose on "
            f"{share(effect.win_share)} of {effect.questions} questions; 95 % interval of the mean change "
            f"{range_of(number(effect.interval[0]), number(effect.interval[1]))}"
        ),
        axis=axis,
        ticks=tuple(Tick(_x(axis, tick), _y(axis, tick), number(tick)) for tick in axis.ticks(4)),
        rose=_path(axis, [point for point in both if point[1] > point[0]]),
        others=_path(axis, [point for point in both if not point[1] > point[0]]),
        mean=(_x(axis, effect.before), _y(axis, effect.after)),
        interval=None if math.isnan(low + high) else (_y(axis, low), _y(axis, high)),
        noise=tuple(_y(axis, each) for each in noise),
    )


def _path(axis: Axis, points: list[tuple[float, float]]) -> str:
    """Return a path of dots: lines of no length, which round ends make visible."""
    return "".join(f"M{_x(axis, x):g} {_y(axis, y):g}h0" for x, y in points)


def _x(axis: Axis, value: float) -> float:
    return axis.place(value, LEFT, RIGHT)


def _y(axis: Axis, value: float) -> float:
    return axis.place(value, BOTTOM, TOP)
