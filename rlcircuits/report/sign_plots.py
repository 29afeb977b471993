"""Plot vital signs: pass@k of both models with its band, and every change with its interval. Needs matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.figures import check_ending, figure_png, new_figure, save_figure
from rlcircuits.vital_signs.sign import Outcome, Sign

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_signs", "signs_png"]

_PAST_EDGE = 1.1
"""Where an interval without a bound ends, in units of the panel's half width: past its edge."""

# Blue and orange, told apart by the colour-blind too, and by their marks.
_COLOURS: dict[Outcome, tuple[str, str]] = {
    "trouble": ("tab:orange", "D"),
    "no alarm": ("tab:blue", "o"),
    "no room": ("0.6", "x"),
    "reported": ("0.3", "s"),
}


@validate_arguments
def plot_signs(found: PairSigns, path: str | Path) -> Path:
    """Plot a pair's signs.

    Left: pass@k of both models, and the simultaneous 95 % band of after. Right: each sign's change with its 95 %
    interval, in units of its largest end, so that signs of different units stand in one picture. Grey ticks are the
    noise draws.

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


def signs_png(found: PairSigns) -> bytes:
    """Return the plot of :func:`plot_signs` as a PNG file. Raises RLCircuitsError without matplotlib."""
    return figure_png(_figure(found))


def _figure(found: PairSigns) -> Figure:
    shown = [sign for sign in found.signs if sign.change is not None and sign.interval is not None]
    figure = new_figure(12.0, max(4.0, 0.35 * len(shown) + 1.5))
    left, right = _axes(figure)
    _pass_at_k(left, next((sign for sign in found.signs if sign.name == "pass@k"), None))
    _forest(right, shown)
    figure.suptitle(f"{found.name}: vital signs", parse_math=False)
    return figure


def _axes(figure: Figure) -> tuple[Axes, Axes]:
    panels: Any = figure.subplots(1, 2, width_ratios=(2, 3))
    return panels[0], panels[1]


def _pass_at_k(axes: Axes, sign: Sign | None) -> None:
    axes.set_title("pass@k", fontsize="medium")
    if sign is None or "k" not in sign.details:
        axes.text(0.5, 0.5, "not measurable:\nn = 1" if sign else "", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    details: Any = sign.details
    sizes, before, after = details["k"], details["before"], details["after"]
    # From -1 to 1 nothing is known, since no question differs.
    known = [low > -1 or high < 1 for low, high in zip(details["lower"], details["upper"], strict=True)]
    low, high = ([b + end for b, end in zip(before, details[which], strict=True)] for which in ("lower", "upper"))
    axes.fill_between(sizes, low, high, where=known, color="tab:orange", alpha=0.2, label="95 % band of after")
    axes.plot(sizes, before, color="tab:blue", marker="o", markersize=4, label="before")
    axes.plot(sizes, after, color="tab:orange", marker="D", markersize=4, label="after")
    axes.plot(sizes, details["all_before"], color="tab:blue", linestyle=":", label="all of k right, before")
    axes.plot(sizes, details["all_after"], color="tab:orange", linestyle=":", label="all of k right, after")
    axes.set(xlabel="k", ylabel="share of questions", ylim=(-0.02, 1.02))
    axes.legend(fontsize="small", loc="best")


def _forest(axes: Axes, signs: list[Sign]) -> None:
    axes.set_title("change with its 95 % interval, each in its own unit", fontsize="medium")
    for place, sign in enumerate(signs):
        assert sign.change is not None
        assert sign.interval is not None
        low, high = sign.interval
        scale = max(abs(each) for each in (low, high, sign.change, *sign.noise) if math.isfinite(each)) or 1.0
        low, high = max(low, -_PAST_EDGE * scale), min(high, _PAST_EDGE * scale)
        colour, mark = _COLOURS.get(sign.outcome, ("0.6", "x"))
        axes.plot([low / scale, high / scale], [place, place], color=colour, linewidth=2)
        axes.plot(sign.change / scale, place, marker=mark, color=colour)
        axes.plot([draw / scale for draw in sign.noise], [place] * len(sign.noise), "|", color="0.5", markersize=10)
        axes.text(1.05, place, f"{sign.change:+.3g} {sign.unit}: {sign.outcome}", va="center", fontsize="small")
    axes.axvline(0, color="0.5", linewidth=1, zorder=0)
    axes.set_yticks(range(len(signs)), [sign.name for sign in signs])
    axes.set(xlim=(-1.05, 2.2), ylim=(max(1, len(signs)) - 0.5, -0.5), xticks=[])
