"""From answers to grades: the graders by name, and one loop that no answer can break.

A grader is a function of an answer's text and the gold answer. `math` and a user's own `module:function` run in a
process of their own (`isolated.py`): SymPy may take hours or all memory over one answer, and math-verify's own time
limits are signals, which only work in a program's main thread. `exact` and the graders of the built-in sets take time
that grows with the text's length and no faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import progress_when_slow
from rlcircuits.questions.grading.exact import grade_exact
from rlcircuits.questions.grading.subprocess_grader import Grade, SubprocessGrader, subprocess_grader
from rlcircuits.questions.grading.symbolic import NO_MATH_VERIFY

if TYPE_CHECKING:
    from rlcircuits.questions.question_set import QuestionSet

__all__ = ["Grade", "grade_all", "grade_answer", "grade_exact", "grader"]

Grader = Callable[[str, str], bool]


def grader(name: str) -> Grader:
    """Return the grader called `math`, `exact` or `module:function`.

    Raises RLCircuitsError for a function that cannot be imported, and for `math` without math-verify.
    """
    if name == "exact":
        return grade_exact
    if name == "math":
        if importlib.util.find_spec("math_verify") is None:
            raise RLCircuitsError(NO_MATH_VERIFY)
        return subprocess_grader(name)
    own = subprocess_grader(name)
    own.start()  # what cannot be imported is said now, not after the answers were made
    return own


def grade_all(questions: QuestionSet, texts: Sequence[str]) -> list[Grade]:
    """Grade one answer text a question, in the set's order.

    Where the grader hangs, raises or dies, the answer counts as wrong and its grade says why; the others are graded
    all the same. How far it is stands on stderr when it takes long. Raises RLCircuitsError for a number of texts that
    is not that of the questions, and for a grader that cannot be started at all.
    """
    if len(texts) != len(questions):
        raise RLCircuitsError(f"found {len(texts)} answers to {len(questions)} questions; one each is wanted")
    grades = []
    with progress_when_slow("grading", len(texts)) as advance:
        for text, question in zip(texts, questions.questions, strict=True):
            grades.append(grade_answer(questions.grade, text, question.gold))
            advance()
    return grades


def grade_answer(grade: Grader, text: str, gold: str) -> Grade:
    """Grade one answer with a set's `grade`, as `grade_all` does."""
    if isinstance(grade, SubprocessGrader):
        return grade.grade(text, gold)
    try:
        return Grade(correct=bool(grade(text, gold)))
    except Exception as error:
        return Grade(correct=False, problem=f"{type(error).__name__}: {error}")
