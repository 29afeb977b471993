"""Loss beside intensity: raw intensity follows the loss, so the change of both is shown question by question."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.data import Missing
from rlcircuits.report.page.numbers import number, percent
from rlcircuits.report.page.paired_plots import BOTTOM, LEFT, RIGHT, TOP

__all__ = ["LossPlot", "make_loss_plot"]


@dataclass(frozen=True)
class LossPlot:
    """The change of the loss (across) and of intensity (upwards), in a view box of 320 × 300."""

    points: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    zero: tuple[float, float]
    mean: tuple[float, float]
    summary: tuple[tuple[str, str], ...]
    """Name and change of the loss, of intensity, and of their quotient."""


def make_loss_plot(comparison: Comparison) -> LossPlot | Missing:
    """Return the plot of a pair; missing if no question was compared."""
    loss, intensity, both = (comparison.effects[name] for name in ("loss", "intensity", "intensity_over_loss"))
    changes = [
        (loss_after - loss_before, after - before)
        for loss_before, loss_after, before, after in zip(
            loss.before_values, loss.after_values, intensity.before_values, intensity.after_values, strict=True
        )
        if math.isfinite(loss_after - loss_before) and math.isfinite(after - before)
    ]
    if not changes:
        return Missing("No question was compared, so that neither loss nor intensity is known.")
    x, y = (axis_over([0.0, *(change[side] for change in changes)]) for side in (0, 1))
    return LossPlot(
        points="".join(f"M{_x(x, a):g} {_y(y, b):g}h0" for a, b in changes),
        x_ticks=tuple((_x(x, tick), number(tick)) for tick in x.ticks(4)),
        y_ticks=tuple((_y(y, tick), number(tick)) for tick in y.ticks(4)),
        zero=(_x(x, 0), _y(y, 0)),
        mean=(_x(x, loss.difference), _y(y, intensity.difference)),
        summary=tuple(
            (name, f"{number(effect.before)} → {number(effect.after)} ({percent(effect.change)})")
            for name, effect in (("loss", loss), ("intensity", intensity), ("intensity / loss", both))
        ),
    )


def _x(axis: Axis, value: float) -> float:
    return axis.place(value, LEFT, RIGHT)


def _y(axis: Axis, value: float) -> float:
    return axis.place(value, BOTTOM, TOP)
