"""How many of each question's answers are right: all that signs such as pass@k need of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import short_repr
from rlcircuits.graph.metrics import Float64Array

__all__ = ["Counts", "IntArray", "common_counts", "count_right"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Right answers and answers, question by question.

    Raises:
        RLCircuitsError: the arrays differ in length, a question has no answer, or more right answers than answers.
    """

    questions: tuple[str, ...]
    """Ids."""
    right: IntArray
    """Number of right answers, int64 [questions]."""
    answers: IntArray
    """Number of answers, int64 [questions]."""

    def __post_init__(self) -> None:
        if not len(self.questions) == len(self.right) == len(self.answers):
            raise RLCircuitsError(
                f"counts of {len(self.questions)} questions with {len(self.right)} numbers of right answers and "
                f"{len(self.answers)} numbers of answers; one of each for every question is wanted"
            )
        wrong = np.flatnonzero((self.answers < 1) | (self.right < 0) | (self.right > self.answers))
        if wrong.size:
            first = wrong[0]
            raise RLCircuitsError(
                f"question {self.questions[first]!r} has {self.right[first]} right answers of {self.answers[first]}; "
                f"at least one answer, and from none to all of them right, is wanted"
            )

    def __repr__(self) -> str:
        return short_repr(self, f"{len(self.questions)} questions", f"{self.right.sum()} of {self.answers.sum()} right")

    @property
    def fewest(self) -> int:
        """Return the smallest number of answers to a question; 0 without questions."""
        return int(self.answers.min()) if len(self.questions) else 0

    @property
    def shares(self) -> Float64Array:
        """Return each question's share of right answers, float64 [questions]."""
        return np.asarray(self.right / self.answers, dtype=np.float64)

    def of(self, questions: tuple[str, ...]) -> Counts:
        """Return the counts of these questions, in this order; each must be one of its own."""
        place = {question: index for index, question in enumerate(self.questions)}
        rows = np.array([place[question] for question in questions], dtype=np.int64)
        return Counts(questions, self.right[rows], self.answers[rows])


def count_right(answers: Answers) -> Counts:
    """Return the counts of a model's answers, questions in order of their first answer."""
    right: dict[str, int] = {}
    count: dict[str, int] = {}
    for item in answers.items:
        right[item.question_id] = right.get(item.question_id, 0) + item.correct
        count[item.question_id] = count.get(item.question_id, 0) + 1
    return Counts(tuple(count), _array(right), _array(count))


def common_counts(before: Counts, after: Counts) -> tuple[Counts, Counts]:
    """Return both models' counts over the questions that both answered, in before's order.

    Raises:
        RLCircuitsError: there is no such question.
    """
    theirs = set(after.questions)
    common = tuple(question for question in before.questions if question in theirs)
    if not common:
        raise RLCircuitsError("before and after answered no question in common; signs need the same questions")
    return before.of(common), after.of(common)


def _array(counts: Mapping[str, int]) -> IntArray:
    return np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
