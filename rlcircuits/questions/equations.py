"""The built-in set `equations`: linear equations with `x` on both sides, for the tiny checkpoints in `fixtures/`.

A question is `7x+5=4x+26?`. An answer solves it in steps and then gives the result. It may move the terms in `x`
first, `3x+5=26;3x=21;x=7>7`, or the constants, `7x=4x+21;3x=21;x=7>7`. Only the result is graded. Every coefficient is
written, 1 included.

In `ax+b=cx+d`, the coefficients are at most 12 with a > c > 0, the constants are at most 99, and x is 1 to 20. So no
step needs a negative number or leaves a remainder.

The sha256 of a question's text determines its split. So the splits never overlap, and no list of questions is stored.
"""

from __future__ import annotations

import random
from functools import cache

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.arithmetic import MAX_NEW_TOKENS, SPLITS, grade, split_of
from rlcircuits.questions.question_set import Question, QuestionSet

__all__ = ["NAME", "SIZES", "Equation", "draw", "everything", "grade", "load", "question", "split_of"]

NAME = "equations"
HIGHEST_COEFFICIENT, HIGHEST_CONSTANT, HIGHEST_RESULT = 12, 99, 20
SIZES = {"train": 46_282, "dev": 15_198, "test": 15_426}
"""Number of questions in each split."""

Equation = tuple[int, int, int, int]
"""(a, b, c, d) of ax + b = cx + d."""


@cache
def everything() -> tuple[Equation, ...]:
    """Return the equations of all splits, ordered by a, c, x and b."""
    return tuple(
        (a, b, c, d)
        for a in range(2, HIGHEST_COEFFICIENT + 1)
        for c in range(1, a)
        for x in range(1, HIGHEST_RESULT + 1)
        for b, d in zip(range(HIGHEST_CONSTANT + 1), range((a - c) * x, HIGHEST_CONSTANT + 1), strict=False)
    )


def draw(rng: random.Random) -> Equation:
    """Return a random equation from any split."""
    # Random.random() is the only method whose sequence is the same in every version of Python.
    table = everything()
    return table[int(rng.random() * len(table))]


def question(equation: Equation) -> Question:
    """Return the question that asks for the solution of an equation."""
    a, b, c, d = equation
    text = f"{a}x+{b}={c}x+{d}"
    return Question(id=text, text=text + "?", gold=str((d - b) // (a - c)))


def load(split: str, count: int | None, seed: int) -> QuestionSet:
    """See `rlcircuits.questions.load_questions`."""
    if split not in SPLITS:
        raise RLCircuitsError(f"set {NAME!r} has no split {split!r}; known: {', '.join(SPLITS)}")
    if count is None:
        all_questions = map(question, everything())
        chosen = tuple(item for item in all_questions if split_of(item.text) == split)
    else:
        chosen = _draw(split, count, seed)
    return QuestionSet(NAME, split, chosen, grade, MAX_NEW_TOKENS)


def _draw(split: str, count: int, seed: int) -> tuple[Question, ...]:
    if count < 1:
        raise RLCircuitsError(f"count of questions is {count}; at least 1 is wanted")
    if count > SIZES[split]:
        raise RLCircuitsError(f"count of questions is {count}, but split {split!r} of {NAME!r} has {SIZES[split]}")
    rng = random.Random(seed)
    chosen: dict[str, Question] = {}
    while len(chosen) < count:
        item = question(draw(rng))
        if split_of(item.text) == split:
            chosen.setdefault(item.text, item)
    return tuple(chosen.values())
