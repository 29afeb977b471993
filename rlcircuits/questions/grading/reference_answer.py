r"""The right answer, taken out of the field that holds it: `#### 42`, `\boxed{42}`, or the field as it is."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["Box", "GoldForm", "boxes", "extract_reference_answer", "last_hash"]

GoldForm = Literal["hash", "boxed", "plain"]

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BARE = re.compile(r"[^\s$]+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_HASH = re.compile(r"####[ \t]*([^\n]*)")


class Box(NamedTuple):
    r"""One `\boxed{content}` and where it stands: `text[start:end]`."""

    start: int
    end: int
    content: str


def extract_reference_answer(form: GoldForm, text: str) -> str:
    r"""Return the right answer.

    `hash`: what follows the last `####` on its line, as GSM8K writes it. `boxed`: what stands in the last
    `\boxed{}`, as MATH's solutions have it, nested braces included. `plain`: the whole text.

    Raises ValueError, saying what is missing, where there is no such answer.
    """
    if form == "hash":
        found, wanted = last_hash(text), "'####' and an answer after it"
    elif form == "boxed":
        found, wanted = "".join(box.content for box in boxes(text)[-1:]), r"an answer in a closed \boxed{}"
    else:
        found, wanted = text.strip(), "an answer"
    if not found:
        raise ValueError(f"no gold answer in it; {wanted} is wanted")
    return found


def last_hash(text: str) -> str | None:
    """Return what follows the last `####` on its line, or None where there is none."""
    found = _HASH.findall(text)
    return found[-1].strip() if found else None


def boxes(text: str) -> list[Box]:
    r"""Return every `\boxed{...}` or `\fbox{...}` that is closed, in their order.

    `\boxed 5`, which TeX allows too, holds what stands before the next space, `$` or end. A box within a box is
    part of the outer one.
    """
    closings = _closing_braces(text)
    found: list[Box] = []
    for match in _BOX.finditer(text):
        if found and match.start() < found[-1].end:
            continue
        start = match.end()
        if text[start : start + 1] == "{":
            if start in closings:
                end = closings[start]
                found.append(Box(match.start(), end + 1, text[start + 1 : end].strip()))
        elif bare := _BARE.match(text, start):
            found.append(Box(match.start(), bare.end(), bare.group()))
    return found


def _closing_braces(text: str) -> dict[int, int]:
    r"""Map the place of each brace that is closed to that of the one that closes it; `\{` and `\}` are no braces."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            found[opened.pop()] = brace.start()
    return found
