r"""The right answer, taken out of the field that holds it: `#### 42`, `\boxed{42}`, or the field as it is."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["Box", "GoldForm", "boxes", "extract_gold", "last_hash"]

GoldForm = Literal["hash", "boxed", "plain"]

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_HASH = re.compile(r"####[ \t]*([^\n]*)")


class Box(NamedTuple):
    r"""One `\boxed{content}` and where it stands: `text[start:end]`."""

    start: int
    end: int
    content: str


def extract_gold(form: GoldForm, text: str) -> str:
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
    found: list[Box] = []
    for match in _BOX.finditer(text):
        if found and match.start() < found[-1].end:
            continue
        start = match.end()
        if text[start : start + 1] == "{":
            end = _closing_brace(text, start)
            if end is not None:
                found.append(Box(match.start(), end + 1, text[start + 1 : end].strip()))
        elif bare := re.match(r"[^\s$]+", text[start:]):
            found.append(Box(match.start(), start + bare.end(), bare.group()))
    return found


def _closing_brace(text: str, opening: int) -> int | None:
    depth = 0
    position = opening
    while position < len(text):
        if text[position] == "\\":  # \{ and \} are no braces of TeX's
            position += 1
        elif text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None
