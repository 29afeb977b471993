"""Linear equations with `x` on both sides, `7x+5=4x+26?`, for the tiny checkpoints in `fixtures/`.

A model answers by steps and then the result: `3x+5=26;3x=21;x=7>7` moves the terms in `x` first,
`7x=4x+21;3x=21;x=7>7` the constants. Only the result is graded. Every coefficient is written, 1 included.

In `ax+b=cx+d` the coefficients are 12 at most with a > c > 0, the constants 99 at most, and x is one of 1 to 20:
no step meets a negative number or a remainder.

Splits are fixed by the sha256 of the question's text, so train, dev and test never meet: no list of questions
has to be kept, and a question's split can be recomputed by anyone.
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

Equation = tuple[int, int, int, int]
"""(a, b, c, d) of ax + b = cx + d."""


@cache
def everything() -> tuple[Equation, ...]:
    """Return all equations of the set, of every split, in their natural order."""
    return tuple(
        (a, b, c, d)
        for a in range(2, HIGHEST_COEFFICIENT + 1)
        for c in range(1, a)
        for x in range(1, HIGHEST_RESULT + 1)
        for b, d in zip(range(HIGHEST_CONSTANT + 1), range((a - c) * x, HIGHEST_CONSTANT + 1), strict=False)
    )


def draw(rng: random.Random) -> Equation:
    """Return a random equation of any split."""
    # Only Random.random() is used: it is the one method whose sequence Python promises not to change.
    table = everything()
    return table[int(rng.random() * len(table))]


def question(equation: Equation) -> Question:
    """Return the question an equation asks."""
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
