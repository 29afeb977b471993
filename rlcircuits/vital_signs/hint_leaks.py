"""Whether a hint gives the answer away, so that what it gains says nothing.

The check would rather leave out a hint too many: a number that equals the reference answer counts even where it stands
for something else, such as the 7 of ``7x``. Both models lose the same questions.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rlcircuits.questions.grading.graders import Grader, grade_answer

__all__ = ["leaks_answer"]

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def leaks_answer(hint: str, gold: str, grade: Grader | None = None) -> bool:
    """Return whether a hint holds the reference answer, or would itself be graded as a right answer.

    Numbers are compared by their value, without their sign: ``1,000.0`` is 1000. Any other reference answer is looked
    for as a text, in which case and white space do not matter.

    Args:
        hint: the text of the hint.
        gold: the reference answer.
        grade: the question set's grader.
    """
    if not hint.strip():
        return False
    value = _value(gold)
    if value is not None:
        holds = any(_fraction(found[0]) == value for found in _NUMBER.finditer(hint))
    else:
        holds = _as_pattern(gold).search(hint) is not None
    return holds or (grade is not None and grade_answer(grade, hint, gold).correct)


def _value(gold: str) -> Fraction | None:
    text = gold.strip().lstrip("+-−$").rstrip(".%")
    return _fraction(text) if _NUMBER.fullmatch(text) else None


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _as_pattern(gold: str) -> re.Pattern[str]:
    """Return a pattern of a text as a whole, not within a word."""
    text = gold.strip()
    words = r"\s*".join(map(re.escape, text.split()))
    start, end = ("(?<!\\w)" if text[:1].isalnum() else ""), ("(?!\\w)" if text[-1:].isalnum() else "")
    return re.compile(start + words + end, re.IGNORECASE)
