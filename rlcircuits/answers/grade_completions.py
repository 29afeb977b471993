"""Decode and grade what a model generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.progress import Progress

from rlcircuits.answers.answer_file import Line
from rlcircuits.answers.engines.engine import Completion
from rlcircuits.answers.types import Answer
from rlcircuits.common.progress import progress_when_slow
from rlcircuits.common.stage_times import stage
from rlcircuits.questions.grading.graders import grade_answer
from rlcircuits.questions.question_set import QuestionSet

__all__ = ["UngradedAnswer", "grade_completions"]


@dataclass(frozen=True)
class UngradedAnswer:
    """A completion that is not graded yet."""

    place: int
    """Index of its question in the question set."""
    sample: int
    """Index among the answers to that question."""
    prompt: tuple[int, ...]
    completion: Completion


@stage("grade")
def grade_completions(
    questions: QuestionSet, ungraded: Sequence[UngradedAnswer], tokenizer: Any, within: Progress | None = None
) -> list[Line]:
    """Decode and grade completions, in the given order.

    Args:
        questions: the question set, with its grader.
        ungraded: the completions.
        tokenizer: the model's tokenizer.
        within: the progress bar that is shown, if any. If grading is slow, its progress becomes a second task of this
            bar, or a line on stderr if there is no bar.
    """
    lines = []
    with progress_when_slow("grading", len(ungraded), within) as advance:
        for one in ungraded:
            lines.append(_grade_completion(questions, one, tokenizer))
            advance()
    return lines


def _grade_completion(questions: QuestionSet, one: UngradedAnswer, tokenizer: Any) -> Line:
    question = questions.questions[one.place]
    text = tokenizer.decode(one.completion.ids, skip_special_tokens=True)
    grade = grade_answer(questions.grade, text, question.gold)
    answer = Answer(
        question.id,
        one.prompt,
        one.completion.ids,
        text,
        grade.correct,
        one.completion.finished,
        grade.problem,
        one.sample,
    )
    return Line.of(answer, one.place)
