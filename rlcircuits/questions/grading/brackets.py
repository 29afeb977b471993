r"""Formulas taken apart where they are in no brackets."""

from __future__ import annotations

import re

__all__ = ["depth_of_brackets", "split_at", "within_brackets"]

_OPENING, _CLOSING = "([{", ")]}"


def split_at(separator: re.Pattern[str], text: str) -> list[str]:
    r"""Split a formula at a separator, but not within brackets: `(1,2),3` at commas is `(1,2)` and `3`."""
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
    """Return what stands between the first and the last character, if these are one pair of round brackets."""
    if len(text) < 2 or text[0] != "(" or text[-1] != ")":
        return None
    depth = 0
    for place, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and place < len(text) - 1:
            return None
    return text[1:-1]


def depth_of_brackets(text: str) -> int:
    """Return how many brackets stand within each other at most."""
    depth = deepest = 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        deepest = max(deepest, depth)
    return deepest
