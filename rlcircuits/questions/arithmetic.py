"""The built-in set `arithmetic`: sums of three two-digit numbers, for the tiny checkpoints in `fixtures/`.

A question is `41+30+12?`. An answer adds the numbers in any order, in two steps, and then gives the result:
`41+30=71;71+12=83>83`. Only the result is graded.

The sha256 of a question's text determines its split. So the splits never overlap, and no list of questions is stored.
"""

from __future__ import annotations

import hashlib
import random

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.question_set import Question, QuestionSet

NAME = "arithmetic"
LOWEST, HIGHEST = 10, 99
MAX_NEW_TOKENS = 32
"""Tokens of an answer, with some to spare."""
SPLITS = ("train", "dev", "test")
SIZES = {"train": 437_711, "dev": 145_807, "test": 145_482}
"""Number of questions in each split."""

_SPLIT_OF_BUCKET = ("train",) * 6 + ("dev",) * 2 + ("test",) * 2
_SPAN = HIGHEST - LOWEST + 1
_TOTAL = _SPAN**3


def question_text(numbers: tuple[int, int, int]) -> str:
    """Return the text of a question: `41+30+12?` for (41, 30, 12)."""
    return "+".join(str(number) for number in numbers) + "?"


def split_of(text: str) -> str:
    """Return the split of a question: the sha256 of its text modulo 10 is 0-5 for train, 6-7 for dev, 8-9 for test."""
    return _SPLIT_OF_BUCKET[int.from_bytes(hashlib.sha256(text.encode()).digest()) % 10]


def grade(answer: str, gold: str) -> bool:
    """Return True if the text after the last `>` is exactly the reference answer."""
    return answer.rpartition(">")[1:] == (">", gold)


def _numbers(index: int) -> tuple[int, int, int]:
    first, rest = divmod(index, _SPAN * _SPAN)
    second, third = divmod(rest, _SPAN)
    return first + LOWEST, second + LOWEST, third + LOWEST


def _question(numbers: tuple[int, int, int]) -> Question:
    text = question_text(numbers)
    return Question(id=text.rstrip("?"), text=text, gold=str(sum(numbers)))


def load(split: str, count: int | None, seed: int) -> QuestionSet:
    """See `rlcircuits.questions.load_questions`."""
    if split not in SPLITS:
        raise RLCircuitsError(f"set {NAME!r} has no split {split!r}; known: {', '.join(SPLITS)}")
    if count is None:
        everything = (_numbers(index) for index in range(_TOTAL))
        chosen = tuple(_question(numbers) for numbers in everything if split_of(question_text(numbers)) == split)
    else:
        chosen = _draw(split, count, seed)
    return QuestionSet(NAME, split, chosen, grade, MAX_NEW_TOKENS)


def _draw(split: str, count: int, seed: int) -> tuple[Question, ...]:
    # Rejection sampling needs no table of all 729,000 questions. Random.random() is the only method whose sequence
    # is the same in every version of Python.
    if count < 1:
        raise RLCircuitsError(f"count of questions is {count}; at least 1 is wanted")
    if count > SIZES[split]:
        raise RLCircuitsError(f"count of questions is {count}, but split {split!r} of {NAME!r} has {SIZES[split]}")
    rng = random.Random(seed)
    seen: set[int] = set()
    chosen: list[Question] = []
    while len(chosen) < count:
        index = int(rng.random() * _TOTAL)
        if index in seen:
            continue
        seen.add(index)
        numbers = _numbers(index)
        if split_of(question_text(numbers)) == split:
            chosen.append(_question(numbers))
    return tuple(chosen)
