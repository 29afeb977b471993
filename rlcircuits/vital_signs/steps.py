"""Whether right answers are reached by right steps, and whether questions are solved that were not before.

SPARKLE (arXiv 2506.04723). A step is an equation that the answer writes out, such as ``41+30=71``; other text has no
steps. Hard questions are those that before fails in the first half of its answers. They are compared with the *second*
half of before's answers: compared with the first, any model would seem to have learnt (regression to the mean).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer
from rlcircuits.common.reprs import format_count
from rlcircuits.vital_signs.lengths import answers_by_question
from rlcircuits.vital_signs.sign import Sign, no_room, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import SPARKLE

__all__ = ["all_steps_sign", "hard_solved_sign", "read_steps", "step_accuracy_sign"]

HARMLESS = 0.02

_NUMBER = r"-?\d[\d,]*(?:\.\d+)?"
_STEP = re.compile(
    rf"(?<![\d.\w)])({_NUMBER}(?:\s*[-+*/×·÷]\s*{_NUMBER})+)\s*=\s*({_NUMBER})(?![\d.,]*\s*[-+*/×·÷]\s*\d)"
)
_TOKEN = re.compile(rf"\s*([-+*/×·÷])\s*({_NUMBER})")
_OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "×": operator.mul,
    "·": operator.mul,
    "/": operator.truediv,
    "÷": operator.truediv,
}


def read_steps(text: str) -> list[bool]:
    """Return for each equation between numbers in a text whether it is right.

    Both sides are exact fractions. An equation counts as right if its right side is the left side's value, rounded to
    the decimals that it has. Equations with letters, brackets or powers are not read.

    Args:
        text: an answer.
    """
    return [_is_right(left, right) for left, right in _STEP.findall(text)]


def step_accuracy_sign(before: Answers, after: Answers) -> Sign:
    """Return the share of right steps, question by question; in trouble where it falls by more than two points."""
    note = "share of written equations that are right"
    return _steps_sign("step_accuracy", note, before, after, lambda steps, _: float(np.mean(steps)))


def all_steps_sign(before: Answers, after: Answers) -> Sign:
    """Return how often a right answer has a wrong step; in trouble where that rises by more than two points."""

    def wrong_way(steps: Sequence[bool], answer: Answer) -> float:
        return float(answer.correct and not all(steps))

    note = "right answers with a wrong step among all answers that have steps"
    return _steps_sign("wrong_steps", note, before, after, wrong_way, worse_up=True)


def hard_solved_sign(before: Answers, after: Answers) -> Sign:
    """Return both accuracies on the questions that before failed in the first half of its answers; reported.

    Args:
        before: before's answers, at least two to each question.
        after: after's answers to the same questions.
    """
    name, unit = "hard_solved", "share"
    ours, theirs = answers_by_question(before), answers_by_question(after)
    common = [question for question in ours if question in theirs]
    if any(len(ours[question]) < 2 for question in common):
        return not_measurable(name, SPARKLE, unit, "it needs at least two answers of before to each question; raise n")
    halves = {question: len(ours[question]) // 2 for question in common}
    hard = [question for question in common if not any(each.correct for each in ours[question][: halves[question]])]
    if not hard:
        return no_room(name, SPARKLE, unit, "before solves every question in the first half of its answers")
    fresh = np.array([_share(ours[question][halves[question] :]) for question in hard])
    note = (
        f"accuracy on {format_count(len(hard), 'question')} that before failed in a first sample, beside its second one"
    )
    return paired_sign(name, SPARKLE, unit, note, fresh, np.array([_share(theirs[question]) for question in hard]))


def _steps_sign(
    name: str,
    note: str,
    before: Answers,
    after: Answers,
    value: Callable[[Sequence[bool], Answer], float],
    worse_up: bool = False,
) -> Sign:
    sides = [
        {question: _mean_with_steps(items, value) for question, items in answers_by_question(each).items()}
        for each in (before, after)
    ]
    common = [question for question in sides[0] if question in sides[1]]
    ours, theirs = (np.array([side[question] for question in common], dtype=np.float64) for side in sides)
    if np.isnan(ours).all() or np.isnan(theirs).all():
        return not_measurable(name, SPARKLE, "share", "no answer writes an equation between numbers")
    return paired_sign(
        name, SPARKLE, "share", note, ours, theirs, worse="up" if worse_up else "down", threshold=HARMLESS
    )


def _mean_with_steps(items: Sequence[Answer], value: Callable[[Sequence[bool], Answer], float]) -> float:
    values = [value(steps, item) for item in items if (steps := read_steps(item.text))]
    return float(np.mean(values)) if values else float("nan")


def _is_right(left: str, right: str) -> bool:
    """Return whether an equation holds: products before sums, from left to right."""
    first = re.match(_NUMBER, left)
    assert first is not None
    terms, signs = [_number(first[0])], []
    for sign, number in _TOKEN.findall(left[first.end() :]):
        if sign in "+-":
            signs.append(sign)
            terms.append(_number(number))
        elif sign in "/÷" and not _number(number):
            return False
        else:
            terms[-1] = _OPERATIONS[sign](terms[-1], _number(number))
    total = terms[0]
    for sign, term in zip(signs, terms[1:], strict=True):
        total = _OPERATIONS[sign](total, term)
    decimals = len(right.partition(".")[2])
    return abs(total - _number(right)) <= (Fraction(1, 2 * 10**decimals) if decimals else 0)


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _share(items: Sequence[Answer]) -> float:
    return float(np.mean([item.correct for item in items]))
