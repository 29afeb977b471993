"""Draw a small panel for each vital sign: a curve over k, before and after with the interval, or why there is none."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlcircuits.vital_signs.sign import Outcome, Sign

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OUTCOME_MARKS", "draw_panel"]

# Blue and orange, told apart by the colour-blind too, and by their marks.
OUTCOME_MARKS: Mapping[Outcome, tuple[str, str]] = {
    "trouble": ("tab:orange", "D"),
    "no alarm": ("tab:blue", "o"),
    "no room": ("0.6", "x"),
    "reported": ("0.3", "s"),
}
"""Colour and mark of each outcome that a number can have."""

NOISE = {"marker": "|", "linestyle": "", "color": "0.55", "markersize": 10}
"""How a noise draw is marked."""

_BEFORE, _AFTER = "tab:blue", "tab:orange"
_TITLE_WIDTH, _NOTE_WIDTH, _NOTE_LINES = 36, 38, 6
"""Most characters of a line of a panel's title and note, and most lines of the note."""


def draw_panel(axes: Axes, sign: Sign) -> None:
    """Draw a sign into its panel.

    Args:
        axes: the panel.
        sign: the sign; one with curves over k in its details has them drawn, one without a number its note.
    """
    colour, _ = OUTCOME_MARKS.get(sign.outcome, ("0.6", "x"))
    title = textwrap.fill(f"{sign.name}: {sign.outcome}", _TITLE_WIDTH)
    axes.set_title(title, fontsize="small", color=colour if sign.outcome == "trouble" else "black", parse_math=False)
    axes.tick_params(labelsize="x-small")
    if "k" in sign.details:
        _curves(axes, sign)
    elif sign.change is None:
        _note(axes, sign)
    elif sign.before is not None and sign.after is not None:
        _before_and_after(axes, sign, sign.before, sign.after)
    else:
        _change(axes, sign, sign.change)


def _curves(axes: Axes, sign: Sign) -> None:
    details: Any = sign.details
    sizes, before, after = details["k"], details["before"], details["after"]
    if "lower" in details:
        # From -1 to 1 nothing is known, since no question differs.
        known = [low > -1 or high < 1 for low, high in zip(details["lower"], details["upper"], strict=True)]
        low, high = ([b + end for b, end in zip(before, details[which], strict=True)] for which in ("lower", "upper"))
        axes.fill_between(sizes, low, high, where=known, color=_AFTER, alpha=0.2, label="95 % band of after")
    axes.plot(sizes, before, color=_BEFORE, marker="o", markersize=3, label="before")
    axes.plot(sizes, after, color=_AFTER, marker="D", markersize=3, label="after")
    if "all_before" in details:
        axes.plot(sizes, details["all_before"], color=_BEFORE, linestyle=":", label="all of k right, before")
        axes.plot(sizes, details["all_after"], color=_AFTER, linestyle=":", label="all of k right, after")
        axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("k", fontsize="x-small")
    axes.set_ylabel(sign.unit, fontsize="x-small", parse_math=False)
    axes.legend(fontsize="xx-small", loc="best")


def _before_and_after(axes: Axes, sign: Sign, before: float, after: float) -> None:
    colour, mark = OUTCOME_MARKS.get(sign.outcome, ("0.6", "x"))
    if sign.interval is not None:
        _interval(axes, [before + end for end in sign.interval], [before, after], 1, colour)
    axes.plot([before + draw for draw in sign.noise], [1] * len(sign.noise), **NOISE)  # type: ignore[arg-type]
    axes.plot(before, 0, "o", color="0.3", markersize=5)
    axes.plot(after, 1, mark, color=colour, markersize=6)
    axes.set_yticks([0, 1], ["before", "after"])
    axes.set_ylim(1.6, -0.6)
    _finish(axes, sign)


def _change(axes: Axes, sign: Sign, change: float) -> None:
    colour, mark = OUTCOME_MARKS.get(sign.outcome, ("0.6", "x"))
    if sign.interval is not None:
        _interval(axes, sign.interval, [change], 0, colour)
    axes.plot(sign.noise, [0] * len(sign.noise), **NOISE)  # type: ignore[arg-type]
    axes.plot(change, 0, mark, color=colour, markersize=6)
    axes.set(yticks=[], ylim=(1, -1))
    _finish(axes, sign)


def _interval(axes: Axes, ends: Any, points: list[float], row: int, colour: str) -> None:
    """Draw an interval; an end without a bound is an arrow, as far beyond the points as the other end is."""
    low, high = ends
    finite = [each for each in (low, high, *points) if math.isfinite(each)]
    reach = (max(finite) - min(finite)) or abs(finite[0]) or 1.0
    left = low if math.isfinite(low) else min(finite) - reach
    right = high if math.isfinite(high) else max(finite) + reach
    axes.plot([left, right], [row, row], color=colour, linewidth=2)
    for end, place, mark in ((low, left, "<"), (high, right, ">")):
        if not math.isfinite(end):
            axes.plot(place, row, mark, color=colour, markersize=5)


def _finish(axes: Axes, sign: Sign) -> None:
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(textwrap.fill(sign.unit, _TITLE_WIDTH), fontsize="x-small", parse_math=False)


def _note(axes: Axes, sign: Sign) -> None:
    lines = textwrap.wrap(sign.note, _NOTE_WIDTH)
    shown = lines if len(lines) <= _NOTE_LINES else [*lines[: _NOTE_LINES - 1], "…"]
    text = "\n".join(shown)
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize="x-small", transform=axes.transAxes, parse_math=False)
    axes.set(xticks=[], yticks=[])
