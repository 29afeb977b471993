"""Stop a pair after its first answers, if it can come to nothing or its answers are cut off.

A look is taken at the first batch of each model, at ``FIRST_ANSWERS`` answers at least, where more would be made.
The pair is stopped when

- more than ``max_unfinished`` of a model's first answers have no end token; or
- none of either model's first answers is right; or
- none of one model's is, and that would be a rare chance (below :data:`CHANCE`) for a model that gets just as large a
  share right as the pair needs: ``min_questions`` of those asked. With 20 of 400 that is so from 59 answers on.

Two models with nothing right do not come about by chance where a pair is worth measuring: of two that get 5 % right, in
0.1 % of pairs with 64 answers each. One with nothing right may, where many questions are asked of a weak one; then it
goes on. Batches are of like prompt length, the longest first, so that the first one is harder than the others.

Answers that were recorded, not made here, are not judged by their end tokens, which such files may leave out.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import Side
from rlcircuits.answers.types import Answer
from rlcircuits.common.reprs import elided_repr
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.settings import Settings

CHANCE = 0.05
"""Rarer than this is no chance."""

_LONGEST_QUOTE = 120

LONGEST_EVIDENCE = 1500
"""Characters of an error that shows what the answers are like."""


class InDoubt(Exception):
    """One model's first answers may stop the pair, which those of the other are needed to tell."""


def is_in_doubt(answers: Answers, settings: Settings) -> bool:
    """Whether one model's first answers may stop a pair."""
    return not any(item.correct for item in answers.items) or answers.unfinished > settings.max_unfinished


def reason_to_stop(first: dict[Side, Answers], made: tuple[Side, ...], asked: int, settings: Settings) -> str | None:
    """Why a pair is stopped after both models' first answers, in words, or None.

    Args:
        first: the first answers of both; all of them where they were recorded.
        made: whose answers are made here.
        asked: questions that are asked in all.
        settings: the run's.
    """
    for side in made:
        if first[side].unfinished > settings.max_unfinished:
            return (
                f"of {side}'s first {len(first[side])} answers {100 * first[side].unfinished:.1f} % have no end within "
                f"{first[side].sampling.max_new_tokens} tokens, and max_unfinished is {settings.max_unfinished:g}"
            )
    wrong = [side for side, answers in first.items() if not any(item.correct for item in answers.items)]
    if len(wrong) == len(first):
        return f"none of the first {len(first[made[0]])} answers of either model is right"
    needed = min(settings.min_questions / asked, 1.0)
    for side in wrong:
        if (1 - needed) ** len(first[side]) < CHANCE:
            return (
                f"none of {side}'s first {len(first[side])} answers is right, and {settings.min_questions} of {asked} "
                f"questions are needed that both models answer right"
            )
    return None


def evidence(answers: dict[Side, Answers], questions: QuestionSet, folder: Path | None) -> str:
    """What the answers so far are like, where they lie, and what may be done: the rest of an error's sentence.

    They are written to ``folder``, a new one among the temporary ones where it is None.
    """
    folder = folder or Path(mkdtemp(prefix="rlcircuits-"))
    for side, found in answers.items():
        found.save(folder / f"{side}.answers.jsonl")
    so_far = ", ".join(f"{found.accuracy:.3f} {side}" for side, found in answers.items())
    unfinished = ", ".join(f"{100 * found.unfinished:.1f} % {side}" for side, found in answers.items())
    return (
        f"accuracy so far {so_far}; unfinished {unfinished}; {_example(answers, questions)}; the answers are in "
        f"{folder}; raise max_new_tokens where they are cut off, and see that question set, prompt and chat template "
        f"are what the models were made for"
    )


def _example(answers: dict[Side, Answers], questions: QuestionSet) -> str:
    """A question and an answer to it; a wrong one, and of a model that has no right one where there is such a model."""
    side = min(answers, key=lambda each: answers[each].accuracy)
    item: Answer = min(answers[side].items, key=lambda each: (each.correct, each.finished))
    question = next(each for each in questions.questions if each.id == item.question_id)
    asked, answered = (elided_repr(text, _LONGEST_QUOTE) for text in (question.text, item.text))
    return f"for example, {side} answers {asked} with {answered}, where {elided_repr(question.gold)} is right"
