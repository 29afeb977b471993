r"""Split formulas outside of their brackets, and measure how deep the brackets are."""

from __future__ import annotations

import re

__all__ = ["bracket_depth", "split_at", "within_brackets"]

_OPENING, _CLOSING = "([{", ")]}"


def split_at(separator: re.Pattern[str], text: str) -> list[str]:
    r"""Split a formula at each match of a separator outside of brackets: `(1,2),3` becomes `(1,2)` and `3`."""
    places = {match.start(): match.end() for match in separator.finditer(text)}
    if not places:
        return [text]
    parts: list[str] = []
    start = depth = 0
    for place, character in enumerate(text):
        if depth <= 0 and place in places:
            parts.append(text[start:place])
            start = places[place]
        depth += (character in _OPENING) - (character in _CLOSING)
    return [*parts, text[start:]]


def within_brackets(text: str) -> str | None:
    """Return the content of a text that is one pair of round brackets, `(2, 3)`; None for any other text."""
    if len(text) < 2 or text[0] != "(" or text[-1] != ")":
        return None
    depth = 0
    for place, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and place < len(text) - 1:
            return None
    return text[1:-1]


def bracket_depth(text: str) -> int:
    """Return the depth of the deepest brackets: 2 for `((x)+1)`."""
    depth = deepest = 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        deepest = max(deepest, depth)
    return deepest
