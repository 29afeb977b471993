r"""Extract the reference answer from a data set's field: `#### 42`, `\boxed{42}`, or the whole field."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["Box", "GoldForm", "boxes", "extract_reference_answer", "last_hash", "solution_form"]

GoldForm = Literal["hash", "boxed", "plain"]
"""How a field holds the reference answer; see `extract_reference_answer`."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BARE = re.compile(r"[^\s$]+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_HASH = re.compile(r"####[ \t]*([^\n]*)")
_WORDS = re.compile(r"[^\W\d_]{2,}[\s,]+[^\W\d_]{2,}")


class Box(NamedTuple):
    r"""One `\boxed{content}`, found at `text[start:end]`."""

    start: int
    end: int
    content: str


def extract_reference_answer(form: GoldForm, text: str) -> str:
    r"""Return the reference answer that a field holds.

    Args:
        form: `hash` for what follows the last `####` on its line, as in GSM8K; `boxed` for the content of the last
            `\boxed{}`, as in MATH's solutions; `plain` for the whole text.
        text: the field.

    Raises:
        ValueError: the text holds no such answer; the message says what is missing.
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


def solution_form(text: str) -> GoldForm | None:
    r"""Return the form of a worked solution that ends with its answer, or None if the text is an answer alone.

    A solution has steps before `####`, or a sentence before the last `\boxed{}`.
    """
    steps, mark, _ = text.partition("####")
    if mark and steps.strip() and last_hash(text):
        return "hash"
    return "boxed" if any(_WORDS.search(text[: box.start]) for box in boxes(text)[-1:]) else None


def last_hash(text: str) -> str | None:
    """Return what follows the last `####` on its line, or None if the text has no `####`."""
    found = _HASH.findall(text)
    return found[-1].strip() if found else None


def boxes(text: str) -> list[Box]:
    r"""Return every closed `\boxed{...}` and `\fbox{...}` of a text, in order.

    TeX also allows `\boxed 5`, whose content ends at the next space, `$` or end of the text. A box within a box is
    part of the outer box.
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
    r"""Map the index of each opening brace to that of its closing brace. `\{` and `\}` are not braces."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            found[opened.pop()] = brace.start()
    return found
