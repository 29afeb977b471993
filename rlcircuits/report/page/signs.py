"""The vital signs: the table with a picture of each, and the curves of pass@k with their band."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rlcircuits.comparison.significance import p_in_words
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.page.axis import Axis, axis_over
from rlcircuits.report.page.data import Missing
from rlcircuits.report.page.numbers import number, range_of, signed
from rlcircuits.vital_signs.sign import Sign

__all__ = ["Curves", "SignPicture", "SignRow", "make_curves", "make_sign_rows"]

_TONES = {"trouble": ("bad", "✗"), "no alarm": ("good", "✓"), "no room": ("open", "–"), "not measurable": ("open", "–")}

LEFT, RIGHT, TOP, BOTTOM = 40, 312, 8, 222


@dataclass(frozen=True)
class SignPicture:
    """A sign's change, interval and noise draws on an axis of its own that holds zero: percent of its length."""

    zero: float
    at: float
    low: float | None
    high: float | None
    noise: tuple[float, ...]


@dataclass(frozen=True)
class SignRow:
    """One sign in the table."""

    name: str
    unit: str
    tone: str
    mark: str
    outcome: str
    values: str
    change: str
    interval: str
    noise: str
    p: str
    note: str
    study: str
    picture: SignPicture | None
    """None where nothing changed by a number."""
    sort: tuple[str, str, float]
    """What name, outcome and change sort by."""


@dataclass(frozen=True)
class Curves:
    """pass@k of both models, in the coordinates of a view box of 320 × 260."""

    before: str
    after: str
    band: str
    """Polygon of the simultaneous 95 % band of after; empty where nothing is known."""
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    rows: tuple[tuple[int, str, str, str], ...]
    """k, before, after, and the band of the difference: the same as text."""
    note: str


def make_sign_rows(signs: PairSigns | Missing) -> list[SignRow] | Missing:
    """Return the table's rows, those in trouble first."""
    if isinstance(signs, Missing):
        return signs
    order = ["trouble", "no alarm", "reported", "no room", "not measurable"]
    return [_row(sign) for sign in sorted(signs.signs, key=lambda sign: order.index(sign.outcome))]


def make_curves(signs: PairSigns | Missing) -> Curves | Missing:
    """Return the curves of pass@k; missing where each question has one answer."""
    if isinstance(signs, Missing):
        return Missing("pass@k is not stored. rlcircuits signs FOLDER measures it from the stored answers.")
    sign = next((each for each in signs.signs if each.name == "pass@k"), None)
    if sign is None or "k" not in sign.details:
        return Missing("There is one answer to each question. Measure with n = 8 (--n 8) for curves of pass@k.")
    details: Any = sign.details
    sizes: list[int] = list(details["k"])
    x = Axis(math.log(sizes[0]), math.log(sizes[-1]) if len(sizes) > 1 else math.log(sizes[0]) + 1)
    xs = [x.place(math.log(size), LEFT, RIGHT) for size in sizes]
    before, after = ([_y(value) for value in details[side]] for side in ("before", "after"))
    known = [
        (place, _y(base + low), _y(base + high))
        for place, base, low, high in zip(xs, details["before"], details["lower"], details["upper"], strict=True)
        if low > -1 or high < 1  # from −1 to 1 nothing is known, since no question differs
    ]
    corners = [(px, low) for px, low, _ in known] + [(px, high) for px, _, high in reversed(known)]
    rows = [
        (
            size,
            f"{old:.3f}",
            f"{new:.3f}",
            range_of(signed(low), signed(high)) if low > -1 or high < 1 else "not known",
        )
        for size, old, new, low, high in zip(
            sizes, details["before"], details["after"], details["lower"], details["upper"], strict=True
        )
    ]
    return Curves(
        before=_points(zip(xs, before, strict=True)),
        after=_points(zip(xs, after, strict=True)),
        band=_points(corners),
        x_ticks=tuple((place, str(size)) for place, size in zip(xs, sizes, strict=True) if not size & (size - 1)),
        y_ticks=tuple((_y(tick), f"{tick:g}") for tick in (0, 0.25, 0.5, 0.75, 1)),
        rows=tuple(rows),
        note=sign.note,
    )


def _row(sign: Sign) -> SignRow:
    tone, mark = _TONES.get(sign.outcome, ("plain", "·"))
    write = signed if sign.before is not None else number
    low, high = sign.interval or (math.nan, math.nan)
    return SignRow(
        name=sign.name,
        unit=sign.unit,
        tone=tone,
        mark=mark,
        outcome=sign.outcome,
        values="" if sign.before is None else f"{number(sign.before)} → {number(sign.after)}",
        change="" if sign.change is None else write(sign.change),
        interval="" if sign.interval is None else range_of(write(low), write(high)),
        noise=range_of(signed(min(sign.noise)), signed(max(sign.noise))) if sign.noise else "",
        p="" if sign.p is None else p_in_words(sign.p),
        note=sign.note,
        study=sign.study,
        picture=_picture(sign),
        sort=(sign.name, sign.outcome, math.nan if sign.change is None else sign.change),
    )


def _picture(sign: Sign) -> SignPicture | None:
    if sign.change is None or not math.isfinite(sign.change):
        return None
    low, high = sign.interval or (math.nan, math.nan)
    axis = axis_over([0.0, sign.change, low, high, *sign.noise])
    known = not (math.isnan(low) or math.isnan(high))
    return SignPicture(
        zero=axis.percent(0.0),
        at=axis.percent(sign.change),
        low=axis.percent(low) if known else None,
        high=axis.percent(high) if known else None,
        noise=tuple(axis.percent(draw) for draw in sign.noise if math.isfinite(draw)),
    )


def _y(value: float) -> float:
    return Axis(0.0, 1.0).place(value, BOTTOM, TOP)


def _points(places: Any) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
