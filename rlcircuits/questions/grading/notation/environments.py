r"""Write LaTeX environments of several lines as one line: `\begin{cases}x=1\\y=2\end{cases}` as `x=1, y=2`."""

from __future__ import annotations

import re

__all__ = ["without_environments"]

_BEGIN = re.compile(
    r"\\begin\s*\{(cases|aligned|align|alignat|alignedat|gathered|gather|split|eqnarray|equation|array)(\*?)\}"
    r"(?:\s*\{[^{}]*\})?"
)
_ROW_ENDS = re.compile(r"\\\\(?:\[[^\[\]]*\])?")
_RELATION = re.compile(r"(?<![<>!:\\])=|\\(?:leq|geq|neq|approx|in)(?![A-Za-z])|[<>]")
_NAMED = re.compile(r"\s*[A-Za-z]\s*&?\s*(?:=|<|>|\\(?:leq|geq|neq|approx|in)(?![A-Za-z]))")
_GOES_ON = re.compile(r"\s*&?\s*(?:=|\\approx(?![A-Za-z]))")


def without_environments(text: str) -> str:
    r"""Return the text with the rows of equation systems and of aligned steps on one line.

    Rows that are equations become a list. A row that begins with `=` continues the row above it. An `array` or `cases`
    that holds anything but equations, such as a function defined by cases, stays as it is.
    """
    if r"\begin" not in text:
        return text
    pieces: list[str] = []
    position = 0
    while begin := _BEGIN.search(text, position):
        closing = rf"\end{{{begin[1]}{begin[2]}}}"
        end = text.find(closing, begin.end())
        if end < 0:
            break
        line = _one_line(text[begin.end() : end], may_be_a_table=begin[1] in ("cases", "array"))
        before = text[position : begin.start()]
        if line is None:
            pieces += before, text[begin.start() : end + len(closing)]
        else:
            pieces += before.rstrip().removesuffix(r"\{"), line  # the brace before a system is never closed
        position = end + len(closing)
    return "".join(pieces) + text[position:]


def _one_line(body: str, may_be_a_table: bool) -> str | None:
    rows = [row for row in _ROW_ENDS.split(body) if row.strip(" &")]
    if may_be_a_table and not all(_is_equation(row) for row in rows):
        return None
    if not may_be_a_table:
        rows = _without_steps(rows)
    line = ""
    for row in rows:
        separator = "" if not line or _GOES_ON.match(row) else ", "
        line += separator + row.replace("&", " ").strip(" ,;.")
    return f" {line} "


def _without_steps(rows: list[str]) -> list[str]:
    """Drop the steps that lead to the last row, `x = 5`. Rows that name a value, such as `y = 2`, stay."""
    if not rows or not _NAMED.match(rows[-1]):
        return rows
    return [row for row in rows if _NAMED.match(row) or _GOES_ON.match(row)]


def _is_equation(row: str) -> bool:
    r"""Return True for a row like `x &= 1`, and False for `x & \text{if } x > 1`, whose relation is inside one cell."""
    before, cell, after = row.partition("&")
    if not cell:
        return _RELATION.search(row) is not None
    return bool(_RELATION.match(after.strip()) or re.search(r"(?:=|<|>)\s*$", before))
