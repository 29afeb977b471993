"""Hints to the questions of the built-in sets, which need no file.

The tiny models for these sets read digits and signs, and a text after the question is to them the beginning of an
answer. So their hints are such beginnings. Each belongs to one of the equally good orders, that of the question:

| hint | sums: ``41+30+12?`` | equations: ``7x+5=4x+26?`` |
| --- | --- | --- |
| plan: the order, nothing computed | ``41+30`` | ``7x=`` (constants first) |
| knowledge: the first intermediate result | ``41+30=71`` | ``7x=4x+21`` |
| subproblem: what to compute first | ``41+30=`` | ``7x=4x+`` |
| solution | ``41+30=71;71+12=83>83`` | ``7x=4x+21;3x=21;x=7>7`` |
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rlcircuits.questions import arithmetic, equations
from rlcircuits.questions.question_set import Question, QuestionSet
from rlcircuits.vital_signs.hint_file import QuestionHints

__all__ = ["has_written_hints", "written_hints"]

_EQUATION = re.compile(r"(\d+)x\+(\d+)=(\d+)x\+(\d+)\?")


def has_written_hints(name: str) -> bool:
    """Return whether the questions of a set have hints without a file."""
    return name in _WRITERS


def written_hints(questions: QuestionSet) -> dict[str, QuestionHints]:
    """Return the hints to each question of a built-in set, by its id."""
    write = _WRITERS[questions.name]
    return {question.id: write(question) for question in questions.questions}


def _of_sum(question: Question) -> QuestionHints:
    first, second, third = map(int, question.text.rstrip("?").split("+"))
    subtotal = first + second
    total = subtotal + third
    step = f"{first}+{second}"
    return QuestionHints(
        question_id=question.id,
        plan=step,
        knowledge=f"{step}={subtotal}",
        subproblem=f"{step}=",
        solution=f"{step}={subtotal};{subtotal}+{third}={total}>{total}",
    )


def _of_equation(question: Question) -> QuestionHints:
    found = _EQUATION.fullmatch(question.text)
    assert found is not None, "the set writes all its questions like this"
    a, b, c, d = map(int, found.groups())
    coefficient, constant = a - c, d - b
    result = constant // coefficient
    return QuestionHints(
        question_id=question.id,
        plan=f"{a}x=",
        knowledge=f"{a}x={c}x+{constant}",
        subproblem=f"{a}x={c}x+",
        solution=f"{a}x={c}x+{constant};{coefficient}x={constant};x={result}>{result}",
    )


_WRITERS: dict[str, Callable[[Question], QuestionHints]] = {
    arithmetic.NAME: _of_sum,
    equations.NAME: _of_equation,
}
