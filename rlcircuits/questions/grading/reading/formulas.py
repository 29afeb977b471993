r"""Find the formulas of a text: `$x$`, `$$x$$`, `\(x\)` and `\[x\]`, but not the prices of `from $5 to $7`."""

from __future__ import annotations

import re
from typing import NamedTuple

from rlcircuits.questions.grading.notation.latex import TEXT_COMMAND, has_words

__all__ = ["Formula", "formulas"]

_OPENING = re.compile(r"\\\\(?:\[\d*\.?\d*(?:pt|em|ex|mm|cm)\])?|\\\$|\$\$|\$|\\\(|\\\[|\\begin\{[a-z]+\*?\}")
_ENVIRONMENTS = ("align", "alignat", "displaymath", "eqnarray", "equation", "gather", "math", "multline")
_CLOSINGS = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"} | {
    rf"\begin{{{name}{star}}}": rf"\end{{{name}{star}}}" for name in _ENVIRONMENTS for star in ("", "*")
}
_TO_DOLLAR = re.compile(r"((?:[^$\\\n]|\\[^\n])+)\$")
_TEXT = re.compile(TEXT_COMMAND)
_PROSE = re.compile(r"(?<![A-Za-z])[a-z]{3,}(?![A-Za-z])")
_DIGITS = "0123456789."
_NUMBER = re.compile(r"[\d.,]+\s*", re.ASCII)


class Formula(NamedTuple):
    """One formula, found with its delimiters at `text[start:end]`."""

    start: int
    end: int
    content: str


def formulas(text: str) -> list[Formula]:
    """Return the formulas of a text, in order."""
    found: list[Formula] = []
    position = 0
    unclosed: set[str] = set()
    while opening := _OPENING.search(text, position):  # a line break or \$ opens no formula
        position = opening.end()
        if opening[0] == "$":
            content = _TO_DOLLAR.match(text, position)
            if content and not _is_price(content[1], text[content.end() : content.end() + 1]):
                position = content.end()
                found.append(Formula(opening.start(), position, content[1]))
        elif opening[0] in _CLOSINGS and opening[0] not in unclosed:
            closing = _CLOSINGS[opening[0]]
            end = text.find(closing, position)
            if end < 0:
                unclosed.add(opening[0])
            else:
                found.append(Formula(opening.start(), end + len(closing), text[position:end]))
                position = end + len(closing)
    return found


def _is_price(content: str, after: str) -> bool:
    """Return True if the text between two dollar signs is no formula: `5 a day, and ` in `$5 a day, and $15`.

    `after` is the character behind the second dollar sign.
    """
    content = _TEXT.sub(" ", content).lstrip()
    if not content or (content[0] not in _DIGITS and "\\" not in content and _PROSE.search(content)):
        return True
    goes_on = content[-1].isspace() and not _NUMBER.fullmatch(content)
    return content[0] in _DIGITS and (has_words(content) or after.isdigit() or goes_on)
