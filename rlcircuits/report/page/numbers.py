"""Write numbers as people read them: percent, points, three digits."""

from __future__ import annotations

import math

__all__ = ["MINUS", "number", "percent", "points", "range_of", "share", "signed"]

MINUS = "−"
_NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits; a dash for None and NaN, ∞ for infinity."""
    if value is None or math.isnan(value):
        return _NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    return f"{value:.{digits}g}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Return a number with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def percent(share: float, digits: int = 1) -> str:
    """Return a relative change, given as a share: ``+15.3 %``."""
    return _NOTHING if math.isnan(share) else f"{_plain(100 * share, digits)} %"


def share(value: float) -> str:
    """Return a share without a sign: ``87 %``."""
    return _NOTHING if math.isnan(value) else f"{100 * value:.0f} %"


def points(difference: float, digits: int = 1) -> str:
    """Return a difference of shares in percentage points, without the word."""
    return _NOTHING if math.isnan(difference) else _plain(100 * difference, digits)


def range_of(low: str, high: str) -> str:
    """Return an interval or a range of two written numbers."""
    return f"{low} to {high}"


def _plain(value: float, digits: int) -> str:
    if math.isinf(value):
        return "+∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", MINUS)
