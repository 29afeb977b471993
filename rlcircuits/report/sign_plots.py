"""Plot vital signs: every change with its interval in one panel, then a panel for each sign. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.figures import check_ending, new_figure, save_figure, set_title
from rlcircuits.report.sign_panels import NOISE, OUTCOME_MARKS, draw_panel
from rlcircuits.vital_signs.sign import Sign

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_signs"]

_PAST_EDGE = 1.1
"""Where an interval without a bound ends, in units of the panel's half width: past its edge."""

_COLUMNS, _WIDTH, _PANEL_HEIGHT, _ROW_HEIGHT = 4, 14.0, 2.0, 0.28
"""Panels side by side, and sizes in inches: of the figure, of a panel, of a row of the first panel."""


@validate_arguments
def plot_signs(found: PairSigns, path: str | Path) -> Path:
    """Plot a pair's signs.

    Above: each sign's change with its 95 % interval, in units of its largest end, so that signs of different units
    stand in one panel. Below: a panel for each sign in its own unit. pass@k and coverage@k are curves over k, with the
    simultaneous 95 % band of after; others have before and after, and the interval of the change drawn from before.
    Grey ticks are the noise draws.

    Args:
        found: the signs.
        path: the file to write, ending in .png, .pdf or .svg; its folder is created if it does not exist.

    Returns:
        The file's path.

    Raises:
        RLCircuitsError: matplotlib is not installed, or the file has another ending.
    """
    path = Path(path)
    check_ending(path)
    return save_figure(_figure(found), path)


def _figure(found: PairSigns) -> Figure:
    shown = [sign for sign in found.signs if sign.change is not None and sign.interval is not None]
    rows = math.ceil(len(found.signs) / _COLUMNS)
    heights = (_ROW_HEIGHT * len(shown) + 1.6, _PANEL_HEIGHT * max(rows, 1))
    figure = new_figure(_WIDTH, sum(heights))
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    _forest(parts[0].subplots(), shown)
    panels: Any = parts[1].subplots(max(rows, 1), _COLUMNS, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place < len(found.signs):
            draw_panel(axes, found.signs[place])
        else:
            axes.set_axis_off()
    set_title(figure, f"{found.name}: vital signs")
    return figure


def _forest(axes: Axes, signs: Sequence[Sign]) -> None:
    axes.set_title("change with its 95 % interval, each in its own unit", fontsize="medium")
    for place, sign in enumerate(signs):
        assert sign.change is not None
        assert sign.interval is not None
        low, high = sign.interval
        scale = max(abs(each) for each in (low, high, sign.change, *sign.noise) if math.isfinite(each)) or 1.0
        low, high = max(low, -_PAST_EDGE * scale), min(high, _PAST_EDGE * scale)
        colour, mark = OUTCOME_MARKS.get(sign.outcome, ("0.6", "x"))
        axes.plot([low / scale, high / scale], [place, place], color=colour, linewidth=2)
        axes.plot(sign.change / scale, place, marker=mark, color=colour)
        axes.plot([draw / scale for draw in sign.noise], [place] * len(sign.noise), **NOISE)  # type: ignore[arg-type]
    axes.axvline(0, color="0.5", linewidth=1, zorder=0)
    limits = (max(1, len(signs)) - 0.5, -0.5)
    axes.set_yticks(range(len(signs)), [sign.name for sign in signs])
    axes.set(xlim=(-1.05, 1.05), ylim=limits, xticks=[])
    # The words stand beside the panel as labels of its right edge, for which the layout makes room.
    words: Any = axes.twinx()
    words.set_ylim(limits)
    words.set_yticks(range(len(signs)), [f"{sign.change:+.3g} {sign.unit}: {sign.outcome}" for sign in signs])
    words.tick_params(length=0, labelsize="small")
    _legend(axes, signs)


def _legend(axes: Axes, signs: Sequence[Sign]) -> None:
    """Say what the marks are: of the outcomes that there are, and of noise draws."""
    outcomes = {sign.outcome for sign in signs}
    for outcome, (colour, mark) in OUTCOME_MARKS.items():
        if outcome in outcomes:
            axes.plot([], [], marker=mark, color=colour, linewidth=2, label=outcome)
    if any(sign.noise for sign in signs):
        axes.plot([], [], **NOISE, label="noise draws")  # type: ignore[arg-type]
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=5, frameon=False)
