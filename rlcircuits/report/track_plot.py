"""Plot a tracked run: a panel for each measure, the change from the base with its interval. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.track import Track
from rlcircuits.report.figures import check_ending, new_figure, save_figure, set_title
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.track_curves import Curve, measure_curves, sign_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_track"]

_COLUMNS = 3
_PANEL_INCHES = (4.2, 2.9)
_SIGNS = 6
"""Most vital signs that have a panel: judged ones that moved, those in trouble first, then those that may fail a gate.
"""

_MARKERS = {"holds": "o", "no alarm": "o", "does not hold": "X", "trouble": "X", "inconclusive": "s"}


@validate_arguments
def plot_track(track: Track, path: str | Path) -> Path:
    """Plot the change of accuracy, of each metric and of the main vital signs from the base, step by step.

    The band in colour is the interval, the grey band what noise draws do. A cross is evidence against what is asserted,
    or a sign in trouble, a square is inconclusive, and a dot neither.

    Args:
        track: what to plot; a step at least is measured.
        path: the file to write, ending in .png, .pdf or .svg; its folder is created if it does not exist.

    Returns:
        The file's path.

    Raises:
        RLCircuitsError: matplotlib is not installed, or the file has another ending.
    """
    path = Path(path)
    check_ending(path)
    signs = [each for each in sign_curves(track) if each.is_judged and any(point.value for point in each.points)]
    curves = [*measure_curves(track), *signs[:_SIGNS]]
    rows = math.ceil(len(curves) / _COLUMNS)
    figure = new_figure(_COLUMNS * _PANEL_INCHES[0], rows * _PANEL_INCHES[1] + 0.6)
    panels: Any = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, curve in zip(panels.flat, curves, strict=False):
        _draw(axes, curve, track.base_step)
    for axes in list(panels.flat)[len(curves) :]:
        axes.set_visible(False)
    panels.flat[0].legend(fontsize="small")
    last = track.steps[-1]
    set_title(figure, f"{track.base}: along training; step {last.step} {verdict_words(judge(last.comparison))}")
    return save_figure(figure, path)


def _draw(axes: Axes, curve: Curve, base_step: int) -> None:
    start = [base_step] if curve.from_base else []
    steps = [*start, *(point.step for point in curve.points)]
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    _band(axes, steps, [point.noise for point in curve.points], "noise", color="0.5")
    _band(axes, steps, [point.interval for point in curve.points], "interval", color="tab:blue")
    axes.plot(steps, [*(0.0 for _ in start), *(point.value for point in curve.points)], color="tab:blue", linewidth=1.4)
    for point in curve.points:
        style = _MARKERS.get(point.outcome or "", ".")
        colour = "tab:orange" if style == "X" else "tab:blue"
        axes.plot([point.step], [point.value], marker=style, color=colour, markersize=6, linestyle="none")
    axes.set_title(curve.label, fontsize="medium", parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel(curve.unit, parse_math=False)


def _band(axes: Axes, steps: Sequence[int], ends: Sequence[tuple[float, float] | None], label: str, color: str) -> None:
    """Fill between the ends; a step without ends has none, and a first step before them is the base, without change."""
    start = [0.0] * (len(steps) - len(ends))
    low = [*start, *(math.nan if each is None else each[0] for each in ends)]
    high = [*start, *(math.nan if each is None else each[1] for each in ends)]
    axes.fill_between(steps, low, high, alpha=0.18, color=color, linewidth=0, label=label)
