"""The protocol that makes two checkpoints' answers comparable: from answers to scored sequences.

Six steps, after arXiv 2509.21044 (the ranges in brackets are what its authors ran):

1. each model answered the question (an empty answer is none);
2. both answers are right;
3. both models saw equally many prompt tokens;
4. lengths: ref is the smaller of the two models' mean answer length over the questions kept so far; keep a
   question whose mean length lies within [0.5, 1.5] x ref;
5. and whose two lengths differ by at most `balance` x their mean (0.1, 0.5, 0.6);
6. sample K questions with a fixed seed.

The answers are then cut to the first T_cut = max(⌊alpha · ref⌋, 1) tokens (alpha 0.03 to 0.5), the same for
both models; an answer shorter than T_cut is scored whole. Lengths are in tokens, the end token included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.errors import RLCircuitsError
from rlcircuits.sequences import AnswerSequence

if TYPE_CHECKING:
    from rlcircuits.answers import Answer, Answers

MIN_QUESTIONS = 20
"""Fewer questions than this are refused: a paired test over them says next to nothing."""

LENGTH_WINDOW = (0.5, 1.5)
"""A question's mean answer length must lie within these multiples of ref."""

DEFAULT_ALPHA = 0.3
"""Share of the reference length that is scored."""

DEFAULT_BALANCE = 0.5
"""How far a question's two answer lengths may differ, as a share of their mean."""

DEFAULT_K = 100
"""Questions compared, as in the paper."""

DEFAULT_SEED = 42
"""Seed of the sample of K."""

STAGES = (
    "asked",
    "answered by both",
    "right by both",
    "same prompt length",
    "length near the mean",
    "lengths balanced",
    "sampled",
)
"""The funnel's stages in order."""


@dataclass(frozen=True)
class Pairing:
    """Two checkpoints' answers to the same questions, cut to the same length.

    `before[i]` and `after[i]` answer `question_ids[i]`, in the question set's order.
    """

    question_ids: tuple[str, ...]
    before: tuple[AnswerSequence, ...]
    after: tuple[AnswerSequence, ...]
    t_cut: int
    """Answer tokens scored at most."""
    ref: float
    """Reference answer length, in tokens."""
    alpha: float
    balance: float
    k: int
    """Questions asked for; fewer are compared where fewer were left (see :attr:`note`)."""
    funnel: Mapping[str, int]
    """Questions left after each of :data:`STAGES`, in order."""

    @property
    def dropped(self) -> dict[str, int]:
        """Questions that each stage after the first dropped, by stage."""
        counts = list(self.funnel.values())
        return {stage: a - b for stage, a, b in zip(list(self.funnel)[1:], counts, counts[1:], strict=False)}

    @property
    def note(self) -> str | None:
        """One sentence where fewer questions were left than K asked for, else None."""
        if len(self.question_ids) >= self.k:
            return None
        return f"{self.k} questions were wanted and {len(self.question_ids)} were left, so all are compared"


def pair(
    before: Answers,
    after: Answers,
    *,
    alpha: float = DEFAULT_ALPHA,
    k: int = DEFAULT_K,
    balance: float = DEFAULT_BALANCE,
    seed: int = DEFAULT_SEED,
) -> Pairing:
    """Pair the answers of two checkpoints to one question set, by the protocol above.

    Raises RLCircuitsError for options out of range, answers to different question sets, a question answered
    twice, different sampling, or fewer than :data:`MIN_QUESTIONS` questions left (with the funnel).
    """
    check_options(alpha, k, balance)
    if (before.question_set, before.split) != (after.question_set, after.split):
        raise RLCircuitsError(
            f"before answers {before.question_set} ({before.split}) and after {after.question_set} "
            f"({after.split}); a pair needs the same question set and split"
        )
    if before.sampling != after.sampling:
        raise RLCircuitsError(
            f"before was sampled with {before.sampling} and after with {after.sampling}; a pair needs the same sampling"
        )
    left, right = _by_question(before, "before"), _by_question(after, "after")
    asked = list(dict.fromkeys([*left, *right]))
    stages = [asked]

    stages.append([q for q in asked if q in left and q in right and left[q].answer_ids and right[q].answer_ids])
    stages.append([q for q in stages[-1] if left[q].correct and right[q].correct])
    stages.append([q for q in stages[-1] if len(left[q].prompt_ids) == len(right[q].prompt_ids)])

    lengths = {q: (len(left[q].answer_ids), len(right[q].answer_ids)) for q in stages[-1]}
    ref = float(np.array(list(lengths.values())).mean(axis=0).min()) if lengths else 0.0
    shortest, longest = (limit * ref for limit in LENGTH_WINDOW)
    stages.append([q for q in stages[-1] if shortest <= sum(lengths[q]) / 2 <= longest])
    stages.append([q for q in stages[-1] if abs(lengths[q][0] - lengths[q][1]) <= balance * sum(lengths[q]) / 2])

    if len(stages[-1]) < MIN_QUESTIONS:
        raise RLCircuitsError(
            f"{len(stages[-1])} questions are left to compare and at least {MIN_QUESTIONS} are needed: "
            f"{show_funnel(_count(stages))}"
        )
    stages.append(_sample(stages[-1], k, seed))
    t_cut = max(math.floor(alpha * ref), 1)
    return Pairing(
        question_ids=tuple(stages[-1]),
        before=tuple(_cut(left[q], t_cut) for q in stages[-1]),
        after=tuple(_cut(right[q], t_cut) for q in stages[-1]),
        t_cut=t_cut,
        ref=ref,
        alpha=alpha,
        balance=balance,
        k=k,
        funnel=_count(stages),
    )


def show_funnel(funnel: Mapping[str, int]) -> str:
    """Write the funnel on one line: ``asked 400 → answered by both 400 → right by both 331 → …``."""
    return " → ".join(f"{stage} {count}" for stage, count in funnel.items())


def _count(stages: list[list[str]]) -> dict[str, int]:
    return {name: len(stage) for name, stage in zip(STAGES, stages, strict=False)}


def _sample(questions: list[str], k: int, seed: int) -> list[str]:
    """K of them (all, where there are no more), in the order they came in."""
    if len(questions) <= k:
        return questions
    chosen = np.random.default_rng(seed).choice(len(questions), size=k, replace=False)
    return [questions[i] for i in sorted(chosen)]


def _cut(answer: Answer, t_cut: int) -> AnswerSequence:
    return AnswerSequence(prompt_ids=tuple(answer.prompt_ids), answer_ids=tuple(answer.answer_ids[:t_cut]))


def _by_question(answers: Answers, side: str) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for item in answers.items:
        if item.question_id in found:
            raise RLCircuitsError(
                f"the {side} answers hold question {item.question_id!r} twice; a pair needs one answer a question"
            )
        found[item.question_id] = item
    return found


def check_options(alpha: float, k: int, balance: float) -> None:
    """Raise RLCircuitsError for an alpha outside (0, 1], a K too small to test, or a negative balance."""
    if not 0 < alpha <= 1:
        raise RLCircuitsError(f"alpha is {alpha}; it is a share of the answer's length and must lie in (0, 1]")
    if k < MIN_QUESTIONS:
        raise RLCircuitsError(f"k is {k}; a paired test needs at least {MIN_QUESTIONS} questions")
    if not balance >= 0:
        raise RLCircuitsError(f"balance is {balance}; it must be 0 or more")
