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

Each model is scored on its own answer, as in the paper, so that the two are scored on different tokens. The
variants of :data:`SCORE_ON` let both score the same tokens after their own prompts, on the same questions and
with the same T_cut: what of an effect comes from the answers, and what from the model, can then be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rlcircuits.errors import RLCircuitsError
from rlcircuits.sequences import AnswerSequence

if TYPE_CHECKING:
    from rlcircuits.answers import Answer, Answers

MIN_QUESTIONS = 20
"""Fewer questions than this are refused by default: a paired test over them says next to nothing."""

ScoreOn = Literal["own", "before", "after", "gold"]

SCORE_ON: tuple[ScoreOn, ...] = get_args(ScoreOn)
"""Whose answers are scored: each model's ``own`` (the paper), or by both models that of ``before``, of ``after``,
or the ``gold`` answer."""

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
    dropped_ids: Mapping[str, tuple[str, ...]]
    """The questions that each stage after the first dropped, by stage."""
    score_on: ScoreOn = "own"

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
    min_questions: int = MIN_QUESTIONS,
    score_on: ScoreOn = "own",
    gold: Mapping[str, Sequence[int]] | None = None,
) -> Pairing:
    """Pair the answers of two checkpoints to one question set, by the protocol above.

    `gold` holds the token ids of each question's gold answer, by question; only ``score_on="gold"`` needs it.

    Raises RLCircuitsError for options out of range, answers to different question sets, a question answered
    twice, different sampling, a gold answer that is missing or empty, or fewer than `min_questions` questions
    left (with the funnel).
    """
    check_options(alpha, k, balance, min_questions, score_on)
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
    stages.append([q for q in stages[-1] if _near(lengths[q], ref)])
    stages.append([q for q in stages[-1] if _balanced(lengths[q], balance)])

    if len(stages[-1]) < min_questions:
        raise RLCircuitsError(
            f"{len(stages[-1])} questions are left to compare and at least {min_questions} are needed: "
            f"{show_funnel(_count(stages))}"
        )
    stages.append(_sample(stages[-1], k, seed))
    t_cut = max(math.floor(alpha * ref), 1)
    scored = {q: _scored_answers(q, left[q], right[q], score_on, gold) for q in stages[-1]}
    return Pairing(
        question_ids=tuple(stages[-1]),
        before=tuple(AnswerSequence(left[q].prompt_ids, scored[q][0]).truncated(t_cut) for q in stages[-1]),
        after=tuple(AnswerSequence(right[q].prompt_ids, scored[q][1]).truncated(t_cut) for q in stages[-1]),
        t_cut=t_cut,
        ref=ref,
        alpha=alpha,
        balance=balance,
        k=k,
        funnel=_count(stages),
        dropped_ids=_dropped(stages),
        score_on=score_on,
    )


@dataclass(frozen=True)
class ControlPairing:
    """A control's answers to questions that a pairing compares: `sequences[i]` is of question `places[i]` of it."""

    places: tuple[int, ...]
    sequences: tuple[AnswerSequence, ...]


def pair_control(pairing: Pairing, before: Answers, control: Answers) -> ControlPairing:
    """Pick those of the pairing's questions that a control compares with `before` on: right, and of a length with it.

    The control (before, with noise) is held to the pairing's own ref, balance and T_cut. `before` are the
    answers that `pairing` was made of. Questions the control has no right answer to are left out, without a
    least number: see :class:`~rlcircuits.comparison.ControlEffect`.
    """
    left, right = _by_question(before, "before"), _by_question(control, "control's")
    places: list[int] = []
    sequences: list[AnswerSequence] = []
    for place, (question, shared) in enumerate(zip(pairing.question_ids, pairing.before, strict=True)):
        answer = right.get(question)
        if answer is None or not answer.correct or not answer.answer_ids:
            continue
        lengths = (len(left[question].answer_ids), len(answer.answer_ids))
        if not (_near(lengths, pairing.ref) and _balanced(lengths, pairing.balance)):
            continue
        own = AnswerSequence(answer.prompt_ids, answer.answer_ids).truncated(pairing.t_cut)
        places.append(place)
        sequences.append(own if pairing.score_on == "own" else shared)
    return ControlPairing(tuple(places), tuple(sequences))


def show_funnel(funnel: Mapping[str, int]) -> str:
    """Write the funnel on one line: ``asked 400 → answered by both 400 → right by both 331 → …``."""
    return " → ".join(f"{stage} {count}" for stage, count in funnel.items())


def _count(stages: list[list[str]]) -> dict[str, int]:
    return {name: len(stage) for name, stage in zip(STAGES, stages, strict=False)}


def _dropped(stages: list[list[str]]) -> dict[str, tuple[str, ...]]:
    kept = [set(stage) for stage in stages[1:]]
    return {
        name: tuple(q for q in earlier if q not in later)
        for name, earlier, later in zip(STAGES[1:], stages, kept, strict=False)
    }


def _near(lengths: tuple[int, int], ref: float) -> bool:
    shortest, longest = (limit * ref for limit in LENGTH_WINDOW)
    return shortest <= sum(lengths) / 2 <= longest


def _balanced(lengths: tuple[int, int], balance: float) -> bool:
    return abs(lengths[0] - lengths[1]) <= balance * sum(lengths) / 2


def _scored_answers(
    question: str, before: Answer, after: Answer, score_on: ScoreOn, gold: Mapping[str, Sequence[int]] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids that before and after are scored on."""
    if score_on == "gold":
        ids = tuple((gold or {}).get(question, ()))
        if not ids:
            raise RLCircuitsError(
                f"question {question!r} has no gold answer to score; score_on 'gold' needs one of each"
            )
        return ids, ids
    own = {"before": before.answer_ids, "after": after.answer_ids}
    return (own["before"], own["after"]) if score_on == "own" else (own[score_on], own[score_on])


def _sample(questions: list[str], k: int, seed: int) -> list[str]:
    """K of them (all, where there are no more), in the order they came in."""
    if len(questions) <= k:
        return questions
    chosen = np.random.default_rng(seed).choice(len(questions), size=k, replace=False)
    return [questions[i] for i in sorted(chosen)]


def _by_question(answers: Answers, side: str) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for item in answers.items:
        if item.question_id in found:
            raise RLCircuitsError(
                f"the {side} answers hold question {item.question_id!r} twice; a pair needs one answer a question"
            )
        found[item.question_id] = item
    return found


def check_options(
    alpha: float, k: int, balance: float, min_questions: int = MIN_QUESTIONS, score_on: str = "own"
) -> None:
    """Raise RLCircuitsError for an alpha outside (0, 1], a K too small to test, a negative balance, …."""
    if not 0 < alpha <= 1:
        raise RLCircuitsError(f"alpha is {alpha}; it is a share of the answer's length and must lie in (0, 1]")
    if min_questions < 1:
        raise RLCircuitsError(f"min_questions is {min_questions}; at least 1 is wanted")
    if k < min_questions:
        raise RLCircuitsError(f"k is {k}; a paired test needs at least {min_questions} questions")
    if not balance >= 0:
        raise RLCircuitsError(f"balance is {balance}; it must be 0 or more")
    if score_on not in SCORE_ON:
        raise RLCircuitsError(f"score_on is {score_on!r}; it must be one of {', '.join(SCORE_ON)}")
