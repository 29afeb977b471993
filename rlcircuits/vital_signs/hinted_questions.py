"""Ask a question set with one kind of hint: its prompts, and what of it cannot be asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.question_prompts import check_text_alone
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.grading.graders import Grader, grade_answer
from rlcircuits.questions.question_set import Question, QuestionSet
from rlcircuits.vital_signs.hint_leaks import leaks_answer
from rlcircuits.vital_signs.hints import HintKind
from rlcircuits.vital_signs.solution_prefix import Prefix, cut_solution

__all__ = ["Asked", "PromptReader", "ask_with_hints"]

NO_HINT = "without such a hint"
LEAKS = "the hint leaks the answer"
NO_CUT = "no place to cut the solution"
UNLIKE = "the two tokenizers cut it differently"
NO_ROOM = "no room for it in the context"


@dataclass(frozen=True)
class PromptReader:
    """What says how a model reads a prompt."""

    tokenizer: Any
    context: int | None
    """Most tokens of prompt and answer together; None if the model states no limit."""


@dataclass(frozen=True)
class Asked:
    """Questions with one kind of hint."""

    questions: QuestionSet
    """Those that can be asked; their ids are those of the questions without hints."""
    prompts: tuple[tuple[tuple[int, ...], ...], ...]
    """Each model's prompts to them, as token ids."""
    left_out: Mapping[str, int]
    """How many cannot, by the reason."""


def ask_with_hints(
    kind: HintKind,
    questions: QuestionSet,
    hints: Mapping[str, str],
    readers: Sequence[PromptReader],
    prompting: Prompting,
    max_new_tokens: int,
    separator: str = "\n\n",
) -> Asked:
    """Return the questions with a hint, and each model's prompts.

    A text follows the question's own text, within the prompt's template. A part of a solution follows the whole prompt,
    so that the answer goes on from there; it is graded together with that part. A question is left out for both models
    if its hint leaks the answer, or cannot be asked of either.

    Args:
        kind: the kind of hint.
        questions: the questions without hints.
        hints: by question id, its text, or the whole solution; an empty text leaves the prompt as it is.
        readers: the models.
        prompting: how a question becomes a prompt.
        max_new_tokens: most tokens of an answer.
        separator: what stands between a question and a text.
    """
    check_text_alone(questions, "hints are given with questions of text alone")
    left_out: dict[str, int] = {}
    kept: list[tuple[Question, tuple[int, ...]]] = []
    for question in questions.questions:
        found = _with_hint(kind, question, hints.get(question.id), questions.grade, readers, separator)
        if isinstance(found, str):
            left_out[found] = left_out.get(found, 0) + 1
        else:
            kept.append(found)
    texts = [question.text for question, _ in kept]
    prompts = [prompting.prompts(reader.tokenizer, texts) if texts else [] for reader in readers]
    full = [[(*prompt, *forced) for prompt, (_, forced) in zip(each, kept, strict=True)] for each in prompts]
    fits = [
        all(_fits(reader, each[place], max_new_tokens) for reader, each in zip(readers, full, strict=True))
        for place in range(len(kept))
    ]
    if not all(fits):
        left_out[NO_ROOM] = fits.count(False)
    asked = replace(
        questions,
        name=f"{questions.name}+{kind.slug}" if any(hints.values()) else questions.name,
        questions=tuple(question for (question, _), fit in zip(kept, fits, strict=True) if fit),
        grade=questions.grade if kind.share is None else _AfterPrefix(questions),
    )
    return Asked(asked, tuple(tuple(p for p, fit in zip(each, fits, strict=True) if fit) for each in full), left_out)


class _AfterPrefix:
    """A grader of answers that go on from a part of a solution; the reference answer comes with that part."""

    def __init__(self, questions: QuestionSet) -> None:
        self._grade: Grader = questions.grade
        self.identity = f"after a prefix, {questions.grader}"

    def __call__(self, answer: str, gold: str) -> bool:
        prefix, reference = json.loads(gold)
        grade = grade_answer(self._grade, prefix + answer, reference)
        if grade.problem is not None:
            raise RLCircuitsError(grade.problem)
        return grade.correct


def _with_hint(
    kind: HintKind,
    question: Question,
    hint: str | None,
    grade: Grader,
    readers: Sequence[PromptReader],
    separator: str,
) -> tuple[Question, tuple[int, ...]] | str:
    """Return the question with its hint and the token ids that its answer begins with, or why it is left out."""
    if hint is None:
        return NO_HINT
    if kind.share is None:
        if leaks_answer(hint, question.gold, grade):
            return LEAKS
        return replace(question, text=question.text + (separator + hint if hint else "")), ()
    prefixes = {_cut(reader, hint, kind.share) for reader in readers}
    if len(prefixes) > 1:
        return UNLIKE
    (prefix,) = prefixes
    if prefix is None:
        return NO_CUT
    if kind.share < 1 and leaks_answer(prefix.text, question.gold, grade):
        return LEAKS
    return replace(question, gold=json.dumps([prefix.text, question.gold])), prefix.ids


def _cut(reader: PromptReader, solution: str, share: float) -> Prefix | None:
    return cut_solution(reader.tokenizer, solution, share)


def _fits(reader: PromptReader, prompt: tuple[int, ...], max_new_tokens: int) -> bool:
    return reader.context is None or len(prompt) + max_new_tokens <= reader.context
