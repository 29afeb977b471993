"""The funnel: which pairs of answers can be compared, stage by stage.

A stage is a name and a predicate on a pair of answers (before's, after's). A question stays as long as one of its pairs
of answers passes every stage so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer

AnswerKey = tuple[str, int]
"""Question id, and which of the question's answers, from 0."""

AnswerPairs = Mapping[AnswerKey, tuple["Answer", "Answer"]]
"""Before's and after's answers."""

Stage = tuple[str, Callable[["Answer", "Answer"], bool]]
"""A stage's name, and whether a pair of answers passes it."""

LENGTH_WINDOW = (0.5, 1.5)
"""A question's mean answer length must lie within these multiples of the reference length."""

_ASKED, _SAMPLED = "asked", "sampled"

ANSWER_STAGES: tuple[Stage, ...] = (
    ("answered by both", lambda before, after: bool(before.answer_ids and after.answer_ids)),
    ("right by both", lambda before, after: before.correct and after.correct),
    ("same prompt length", lambda before, after: len(before.prompt_ids) == len(after.prompt_ids)),
)
"""The stages that depend on one pair of answers alone."""


def length_stages(ref: float, balance: float) -> tuple[Stage, ...]:
    """Return the stages that compare answer lengths.

    Args:
        ref: reference answer length in tokens, over the pairs that passed :data:`ANSWER_STAGES`.
        balance: largest difference allowed between a question's two answer lengths, as a share of their mean.
    """
    shortest, longest = (limit * ref for limit in LENGTH_WINDOW)

    def near(before: Answer, after: Answer) -> bool:
        return shortest <= sum(_lengths(before, after)) / 2 <= longest

    def balanced(before: Answer, after: Answer) -> bool:
        ours, theirs = _lengths(before, after)
        return abs(ours - theirs) <= balance * (ours + theirs) / 2

    return (("length near the mean", near), ("lengths balanced", balanced))


STAGES = (_ASKED, *(name for name, _ in (*ANSWER_STAGES, *length_stages(0.0, 0.0))), _SAMPLED)
"""Names of all stages, in order."""


@dataclass
class Funnel:
    """The pairs of answers and the questions that are left, while stages are applied."""

    pairs: AnswerPairs
    """Pairs of answers that passed every stage so far."""
    questions: dict[str, list[str]]
    """Question ids left after each stage so far, in the question set's order."""

    @classmethod
    def of(cls, before: Answers, after: Answers) -> Funnel:
        """Pair before's i-th answer to each question with after's i-th.

        Raises:
            RLCircuitsError: a question was answered more often than its sampling says.
        """
        left, right = answers_by_key(before, "before"), answers_by_key(after, "after")
        asked = list(dict.fromkeys(question for question, _ in (*left, *right)))
        return cls({key: (left[key], right[key]) for key in left if key in right}, {_ASKED: asked})

    @property
    def left(self) -> list[str]:
        """Return the questions left after the last stage so far."""
        return list(self.questions.values())[-1]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of questions left after each stage."""
        return {name: len(questions) for name, questions in self.questions.items()}

    @property
    def dropped(self) -> dict[str, tuple[str, ...]]:
        """Return the questions that each stage after the first dropped."""
        kept = {name: set(questions) for name, questions in self.questions.items()}
        return {
            name: tuple(question for question in self.questions[earlier] if question not in kept[name])
            for earlier, name in pairwise(self.questions)
        }

    def keep(self, stages: Sequence[Stage]) -> None:
        """Apply these stages, one after the other."""
        for name, passes in stages:
            self.pairs = {key: both for key, both in self.pairs.items() if passes(*both)}
            left = {question for question, _ in self.pairs}
            self.questions[name] = [question for question in self.left if question in left]

    def sample(self, k: int | None, seed: int) -> None:
        """Draw K of the questions left, or keep all if K is None or there are no more, in the order they came in."""
        questions = self.left
        if k is not None and len(questions) > k:
            chosen = np.random.default_rng(seed).choice(len(questions), size=k, replace=False)
            questions = [questions[i] for i in sorted(chosen)]
        self.questions[_SAMPLED] = questions


def reference_length(pairs: AnswerPairs) -> float:
    """Return the smaller of the two models' mean answer lengths, in tokens; 0 without any pair.

    The mean is over questions. A question's length is the mean over its pairs of answers.
    """
    lengths: dict[str, list[tuple[int, int]]] = {}
    for (question, _), both in pairs.items():
        lengths.setdefault(question, []).append(_lengths(*both))
    if not lengths:
        return 0.0
    return float(np.array([np.mean(each, axis=0) for each in lengths.values()]).mean(axis=0).min())


def show_funnel(funnel: Mapping[str, int]) -> str:
    """Write the number of questions left after each stage: ``asked 400 → answered by both 400 → …``.

    Where all that were left are compared, none was sampled, and the last stage is not shown.
    """
    stages = list(funnel.items())
    if len(stages) > 1 and stages[-1][0] == _SAMPLED and stages[-1][1] == stages[-2][1]:
        stages.pop()
    return " → ".join(f"{stage} {count}" for stage, count in stages)


def answers_by_key(answers: Answers, side: str) -> dict[AnswerKey, Answer]:
    """Return the answers by question and sample.

    Args:
        answers: one model's answers.
        side: whose they are, for the error message.

    Raises:
        RLCircuitsError: an answer is there twice, or its sample is not one of the sampling's n.
    """
    n = answers.sampling.n
    found: dict[AnswerKey, Answer] = {}
    for item in answers.items:
        key = (item.question_id, item.sample)
        if not 0 <= item.sample < n:
            raise RLCircuitsError(
                f"the {side} answers hold sample {item.sample} of question {item.question_id!r}; their sampling has "
                f"n = {n}, so 0 to {n - 1} is wanted"
            )
        if key in found:
            which, wanted = ("", "a question") if n == 1 else (f"sample {item.sample} of ", "a sample")
            raise RLCircuitsError(
                f"the {side} answers hold {which}question {item.question_id!r} twice; a pair needs one answer {wanted}"
            )
        found[key] = item
    return found


def _lengths(before: Answer, after: Answer) -> tuple[int, int]:
    return len(before.answer_ids), len(after.answer_ids)
