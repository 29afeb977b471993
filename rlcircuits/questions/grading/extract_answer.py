r"""The answer that a text states, found the way graders of mathematics agree on.

In this order: what stands in the last `\boxed{}`; what follows the last `####`; what follows the last "answer is" or
"answer:", unless it is taken back, `Wait, ...`; the whole text where it is nothing but mathematics; its last formula
where that goes over several lines and ends it; its last line where that is nothing but mathematics and units; its last
sentence with a number or formula in it; its last line.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from rlcircuits.questions.grading.formulas import formulas
from rlcircuits.questions.grading.latex import has_words, tidy
from rlcircuits.questions.grading.reference_answer import boxes, last_hash
from rlcircuits.questions.grading.statement import holds_a_value, whole_statement

__all__ = ["ExtractedAnswer", "extract_answer", "said_last"]

_THOUGHT_ENDS = "</think>"
_ANNOUNCED = re.compile(
    r"\banswers?\b(?:\s+(?:to|for)\b[^.\n:]{0,80}?)?[*_]{0,4}\s*(?:\bis\b|\bare\b|:|=)[\s:*_]*(?=\S)", re.IGNORECASE
)
_TAKEN_BACK = re.compile(
    r"(?:oh |but |oops,? |hm+,? )?(?:wait|no,|sorry|correction|scratch that|i made a mistake)", re.IGNORECASE
)
_JOINT = re.compile(r"[\s$*,;]*(?:and|or)?[\s$*,;]*")
_LONGEST_JOINT = 40
_SENTENCE_END = re.compile(r"\n|[.!?](?:\s|$)|[.!?]\*")
_ABBREVIATED = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Rs|approx|ca|No|vs|resp|sq|cu|i\.e|e\.g|ft|in|yd|lb|lbs|oz|hrs?|mins?|secs?)$", re.IGNORECASE
)


class ExtractedAnswer(NamedTuple):
    """A piece of a text. `announced`: it is all answer, and no sentence in which an answer stands."""

    text: str
    announced: bool


def extract_answer(text: str) -> ExtractedAnswer:
    """Return the answer as the text writes it, "" where nothing in it can be one.

    What stands before a closing `</think>` is thought, not answer, and not looked at.
    """
    text = _after_thought(text)
    if boxed := _last_boxes(text):
        return ExtractedAnswer(boxed, announced=True)
    if hashed := last_hash(text):
        return ExtractedAnswer(hashed, announced=True)
    if announced := said_last(text):
        first, *others = _sentences(announced)
        if not any(_TAKEN_BACK.match(sentence) for sentence in others):
            return ExtractedAnswer(first, announced=True)
    if not has_words(tidy(text)):
        return ExtractedAnswer(text.strip(), announced=True)
    last_formula = formulas(text)[-1:]
    if last_formula and "\n" in last_formula[0].content and not text[last_formula[0].end :].strip(" .\n"):
        return ExtractedAnswer(last_formula[0].content, announced=True)
    last_line = text.strip().rpartition("\n")[2]
    if not has_words(tidy(last_line)) or whole_statement(last_line):
        return ExtractedAnswer(last_line, announced=True)
    for sentence in reversed(_sentences(text)):
        if holds_a_value(sentence):
            return ExtractedAnswer(sentence, announced=False)
    return ExtractedAnswer(last_line, announced=False)


def said_last(text: str) -> str:
    """Return all that follows the last "answer is" or "answer:" of a text, "" where there is none."""
    text = _after_thought(text)
    announced = deque(_ANNOUNCED.finditer(text), maxlen=1)
    return text[announced[0].end() :] if announced else ""


def _after_thought(text: str) -> str:
    said = text.rpartition(_THOUGHT_ENDS)[2]
    return said if said.strip() else text


def _last_boxes(text: str) -> str:
    r"""Return the last box, together with those just before it: `\boxed{1}` and `\boxed{2}` are one answer."""
    found = boxes(text)
    if not found:
        return ""
    first = len(found) - 1
    while first and _are_joined(text, found[first - 1].end, found[first].start):
        first -= 1
    return ", ".join(dict.fromkeys(box.content for box in found[first:]))


def _are_joined(text: str, start: int, end: int) -> bool:
    return end - start <= _LONGEST_JOINT and _JOINT.fullmatch(text, start, end) is not None


def _sentences(text: str) -> list[str]:
    """Return the sentences of a text; a line ends one, and a full stop within a formula ends none."""
    inside = iter(formulas(text))
    formula = next(inside, None)
    found: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        while formula is not None and formula.end <= end.start():
            formula = next(inside, None)
        if formula is not None and formula.start < end.start():
            continue
        if text[end.start()] == "." and _ABBREVIATED.search(text, max(start, end.start() - 8), end.start()):
            continue
        found.append(text[start : end.start()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence] or [""]
