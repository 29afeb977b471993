"""Stop a pair after its first answers, if it is unlikely to have enough right answers or its answers are cut off.

Each model's first batches are checked, at least :data:`~rlcircuits.answers.generate.FIRST_ANSWERS` answers. A model
whose first batches are all its answers is not checked. The pair is stopped if

- more than ``max_unfinished`` of a model's first answers have no end token;
- none of the first answers of either model is right; or
- none of one model's first answers is right, and that would be unlikely (below :data:`CHANCE`) for a model whose
  accuracy is the least that the pair needs: ``min_questions`` of the questions asked. With 20 of 400 questions that is
  the case from 59 answers on.

Two models without a right answer are hardly bad luck: of pairs whose models both get 5 % right, 0.1 % have no right
answer among 64 from each. One model without a right answer can be bad luck, if a weak model is asked many questions;
such a pair goes on. Batches are of similar prompt length, the longest first, so the first batch is harder than the
others.

Recorded answers are not judged by their end tokens, which such files may leave out.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import Side
from rlcircuits.answers.types import Answer
from rlcircuits.common.reprs import elided_repr
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.result_files import save_answers
from rlcircuits.release.settings import Settings

CHANCE = 0.05
"""Probability below which no right answer counts as evidence, not as bad luck."""

_LONGEST_QUOTE = 120

LONGEST_EVIDENCE = 1500
"""Longest error message that quotes answers, in characters."""


class InDoubt(Exception):
    """Raised if one model's first answers may stop the pair, depending on the other model's first answers."""


def is_in_doubt(answers: Answers, settings: Settings) -> bool:
    """Return whether one model's first answers may stop the pair."""
    return not any(item.correct for item in answers.items) or answers.unfinished > settings.max_unfinished


def reason_to_stop(
    first: dict[Side, Answers], generating: tuple[Side, ...], asked: int, settings: Settings
) -> str | None:
    """Return in words why the pair is stopped after both models' first answers, or None if it goes on.

    Args:
        first: the first answers of both models; all of them if they were recorded.
        generating: the models whose answers are generated, not recorded.
        asked: number of questions asked in all.
        settings: the run's settings.
    """
    for side in generating:
        if first[side].unfinished > settings.max_unfinished:
            return (
                f"of {side}'s first {len(first[side])} answers {100 * first[side].unfinished:.1f} % have no end within "
                f"{first[side].sampling.max_new_tokens} tokens, and max_unfinished is {settings.max_unfinished:g}"
            )
    wrong = [side for side, answers in first.items() if not any(item.correct for item in answers.items)]
    if len(wrong) == len(first):
        return f"none of the first {len(first[generating[0]])} answers of either model is right"
    needed = min(settings.min_questions / asked, 1.0)
    for side in wrong:
        if (1 - needed) ** len(first[side]) < CHANCE:
            return (
                f"none of {side}'s first {len(first[side])} answers is right, and {settings.min_questions} of {asked} "
                f"questions are needed that both models answer right"
            )
    return None


def evidence(answers: dict[Side, Answers], questions: QuestionSet, folder: Path | None) -> str:
    """Save the answers so far, and return the end of an error message: their accuracy, their files and what to do.

    Args:
        answers: the answers so far, by side.
        questions: the questions that they answer.
        folder: where to save them; None for a new temporary folder.
    """
    folder = folder or Path(mkdtemp(prefix="rlcircuits-"))
    for side, found in answers.items():
        save_answers(folder, side, found)
    so_far = ", ".join(f"{found.accuracy:.3f} {side}" for side, found in answers.items())
    unfinished = ", ".join(f"{100 * found.unfinished:.1f} % {side}" for side, found in answers.items())
    return (
        f"accuracy so far {so_far}; unfinished {unfinished}; {_example(answers, questions)}; the answers are in "
        f"{folder}; raise max_new_tokens where they are cut off, and see that question set, prompt and chat template "
        f"are what the models were made for"
    )


def _example(answers: dict[Side, Answers], questions: QuestionSet) -> str:
    """Quote a question and an answer to it, wrong if there is a wrong one, from the model with the lower accuracy."""
    side = min(answers, key=lambda each: answers[each].accuracy)
    item: Answer = min(answers[side].items, key=lambda each: (each.correct, each.finished))
    question = next(each for each in questions.questions if each.id == item.question_id)
    asked, answered = (elided_repr(text, _LONGEST_QUOTE) for text in (question.text, item.text))
    return f"for example, {side} answers {asked} with {answered}, where {elided_repr(question.gold)} is right"
