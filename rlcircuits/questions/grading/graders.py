"""Find graders by name, and grade the answers to a question set.

A grader is a function of an answer's text and the reference answer that returns a bool. `math` and the user's own
`module:function` run in a subprocess (`subprocess_grader.py`): SymPy can take hours or all memory over one answer, and
math-verify's own time limits are signals, which work only in a program's main thread. `exact` and the graders of the
built-in sets take time linear in the length of the text, and run in this process.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import progress_when_slow
from rlcircuits.questions.grading.comparing.symbolic import NO_MATH_VERIFY
from rlcircuits.questions.grading.exact_grader import grade_exact
from rlcircuits.questions.grading.subprocess_grader import Grade, SubprocessGrader, subprocess_grader

if TYPE_CHECKING:
    from rlcircuits.questions.question_set import QuestionSet

__all__ = ["Grade", "grade_all", "grade_answer", "grade_exact", "grader"]

Grader = Callable[[str, str], bool]
"""`grade(answer_text, reference_answer)`: True for a correct answer."""


def grader(name: str) -> Grader:
    """Return the grader with this name.

    Args:
        name: `math`, `exact`, or the user's own function as `module:function`.

    Raises:
        RLCircuitsError: the function cannot be imported, or `math` is asked for and math-verify is not installed.
    """
    if name == "exact":
        return grade_exact
    if name == "math":
        if importlib.util.find_spec("math_verify") is None:
            raise RLCircuitsError(NO_MATH_VERIFY)
        return subprocess_grader(name)
    own = subprocess_grader(name)
    own.start()  # a function that cannot be imported fails now, not after the answers were generated
    return own


def grade_all(questions: QuestionSet, texts: Sequence[str]) -> list[Grade]:
    """Grade one answer to each question.

    If the grader hangs, raises or crashes on an answer, that answer counts as wrong and its grade says why. The other
    answers are graded as usual. Grading that takes long shows its progress on stderr.

    Args:
        questions: the question set, with its grader.
        texts: one answer text for each question, in the order of the set.

    Returns:
        One grade for each text, in the same order.

    Raises:
        RLCircuitsError: the numbers of texts and questions differ, or the grader cannot be started.
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
    """Grade one answer. A grader that fails makes the answer wrong, and the grade says why."""
    if isinstance(grade, SubprocessGrader):
        return grade.grade(text, gold)
    try:
        return Grade(correct=bool(grade(text, gold)))
    except Exception as error:
        return Grade(correct=False, problem=f"{type(error).__name__}: {error}")
