"""Tables for notebooks, which show the HTML that an object's ``_repr_html_`` returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tabulate import tabulate

__all__ = ["format_interval", "format_percent", "format_value", "titled_table"]


def titled_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a line of text and a table below it as HTML; text from outside is escaped."""
    table = tabulate(rows, headers, tablefmt="html", disable_numparse=True)
    return f"<p><strong>{escape(title)}</strong></p>\n{table}"


def format_value(value: float) -> str:
    """Return a number with three digits; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.3g}"


def format_percent(share: float) -> str:
    """Return a share as ``+12.3 %``; empty for NaN."""
    return "" if math.isnan(share) else f"{100 * share:+.1f} %"


def format_interval(interval: tuple[float, float] | None) -> str:
    """Return an interval as ``[low, high]``; empty if there is none."""
    if interval is None or any(map(math.isnan, interval)):
        return ""
    return "[{:.3g}, {:.3g}]".format(*interval)
