r"""Extract the piece of a text that states the answer.

The first of these that the text has is the piece, as in other graders of mathematics:

1. the content of the last `\boxed{}`;
2. what follows the last `####`;
3. what follows the last "answer is" or "answer:", unless the text then corrects itself, `Wait, ...`;
4. the whole text, if it is nothing but mathematics;
5. the last formula, if it has several lines and ends the text;
6. the last line, if it is nothing but mathematics and units;
7. the last sentence that contains a number or formula;
8. the last line.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from rlcircuits.questions.grading.notation.latex import has_words, tidy
from rlcircuits.questions.grading.reading.formulas import formulas
from rlcircuits.questions.grading.reading.reference_answer import boxes, last_hash
from rlcircuits.questions.grading.reading.statement import holds_a_value, whole_statement

__all__ = ["ExtractedAnswer", "extract_answer", "text_after_answer_is"]

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
    """The piece of a text that states the answer."""

    text: str
    announced: bool
    """True if the piece is the answer, as after "answer is"; False if it is a sentence that contains the answer."""


def extract_answer(text: str) -> ExtractedAnswer:
    """Return the piece of a text that states the answer, as the text writes it; "" for an empty text.

    Everything before the last `</think>` is ignored.
    """
    text = _after_thought(text)
    if boxed := _last_boxes(text):
        return ExtractedAnswer(boxed, announced=True)
    if hashed := last_hash(text):
        return ExtractedAnswer(hashed, announced=True)
    if announced := text_after_answer_is(text):
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


def text_after_answer_is(text: str) -> str:
    """Return everything after the last "answer is" or "answer:" of a text; "" if the text has neither."""
    text = _after_thought(text)
    announced = deque(_ANNOUNCED.finditer(text), maxlen=1)
    return text[announced[0].end() :] if announced else ""


def _after_thought(text: str) -> str:
    said = text.rpartition(_THOUGHT_ENDS)[2]
    return said if said.strip() else text


def _last_boxes(text: str) -> str:
    r"""Return the contents of the last box and of the boxes it is joined to: "1, 2" for `\boxed{1}` and `\boxed{2}`."""
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
    """Return the sentences of a text. The end of a line ends a sentence; a full stop within a formula does not."""
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
