"""Question sets: what is asked, in which split, and how an answer is graded.

One module a set. A set is found by its name with `load_questions`, and `names` lists what there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlcircuits.errors import RLCircuitsError

__all__ = ["Question", "QuestionSet", "load_questions", "names"]


@dataclass(frozen=True)
class Question:
    """One question.

    `id` is unique within its set, `text` is what the model is shown (before any chat template), `gold` is the
    right answer in the form the set's grader compares with.
    """

    id: str
    text: str
    gold: str


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one split, and `grade(answer_text, gold)`, which says whether an answer is right."""

    name: str
    split: str
    questions: tuple[Question, ...]
    grade: Callable[[str, str], bool]

    def __len__(self) -> int:
        return len(self.questions)


def _loaders() -> dict[str, Callable[[str, int | None, int], QuestionSet]]:
    # Imported here because each set's module imports the two classes above.
    from rlcircuits.questions import arithmetic

    return {"arithmetic": arithmetic.load}


def names() -> tuple[str, ...]:
    """Return the names `load_questions` knows, sorted."""
    return tuple(sorted(_loaders()))


def load_questions(name: str, *, split: str = "test", count: int | None = None, seed: int = 42) -> QuestionSet:
    """Return questions of a set's split, the same ones in the same order on every machine.

    `count` of them drawn without replacement with `seed` (a smaller count is a prefix of a larger one), or
    the whole split in its natural order when `count` is None.

    Raises RLCircuitsError for an unknown set or split, or a count the split cannot fill.
    """
    loaders = _loaders()
    if name not in loaders:
        raise RLCircuitsError(f"unknown question set {name!r}; known: {', '.join(sorted(loaders))}")
    return loaders[name](split, count, seed)
