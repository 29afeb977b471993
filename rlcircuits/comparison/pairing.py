"""Pair two checkpoints' answers: from answers to the sequences that both are scored on.

The protocol follows arXiv 2509.21044; the ranges in brackets are what its authors used.

1. Each model answered the question; an empty answer is none.
2. Both answers are right.
3. Both models saw equally many prompt tokens.
4. The question's mean answer length lies within [0.5, 1.5] x ref. ref is the smaller of the two models' mean answer
   lengths over the questions left after step 3.
5. The question's two answer lengths differ by at most `balance` x their mean (0.1, 0.5, 0.6).
6. K questions are sampled with a fixed seed.
7. Answers are cut to their first T_cut = max(⌊alpha · ref⌋, 1) tokens (alpha 0.03 to 0.5), the same for both models.
   A shorter answer is scored whole.

Lengths are in tokens and include the end token.

With n answers to every question, before's i-th answer is paired with after's i-th. This matching does not look at the
answers. The steps then apply to these pairs of answers, and a question stays as long as one of its pairs does. A
question counts once in the funnel, and in ref by the mean lengths of its remaining pairs. All remaining pairs of the K
questions are scored, and a question's value is the mean over them (:meth:`Pairing.by_question`).

As in the paper, each model is scored on its own answers, so the two are scored on different tokens. The other choices
of ``score_on`` let both models score the same tokens after their own prompts, on the same questions and with the same
T_cut. They show how much of an effect comes from the answers, and how much from the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import SCORE_ON, ScoreOn
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.funnel import (
    ANSWER_STAGES,
    AnswerPairs,
    Funnel,
    length_stages,
    reference_length,
    show_funnel,
)
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer


class TooFewQuestionsError(RLCircuitsError):
    """Raised if fewer questions are left to compare than are needed."""

    def __init__(self, message: str, pairing: Pairing) -> None:
        super().__init__(message)
        self.pairing = pairing
        """The pairing of no question, with the funnel that led to it."""


@dataclass(frozen=True)
class Pairing:
    """Two checkpoints' answers to the same questions, cut to the same length.

    A row is a pair of sequences, ``before[i]`` and ``after[i]``, which are compared with each other. It answers
    question ``question_ids[places[i]]``. Questions are in the question set's order, a question's rows in the order of
    its samples.
    """

    question_ids: tuple[str, ...]
    before: tuple[AnswerSequence, ...]
    after: tuple[AnswerSequence, ...]
    places: tuple[int, ...]
    """Each row's question. A question has one row if it has one answer, or if gold answers are scored."""
    samples: tuple[tuple[int, ...], ...]
    """Which samples of the question's answers each row stands for; several only if gold answers are scored."""
    t_cut: int
    """Most answer tokens scored."""
    ref: float
    """Reference answer length, in tokens."""
    alpha: float
    """Share of the reference answer length that is scored."""
    balance: float
    """Largest difference allowed between a question's two answer lengths, as a share of their mean."""
    k: int | None
    """Questions asked for, None for all; fewer are compared if fewer were left (see :attr:`note`)."""
    funnel: Mapping[str, int]
    """Questions left after each of :data:`~rlcircuits.comparison.funnel.STAGES`, in order."""
    dropped_ids: Mapping[str, tuple[str, ...]]
    """The questions that each stage after the first dropped."""
    score_on: ScoreOn = defaults.SCORE_ON
    too_few: str | None = None
    """Why no question is compared; None if some are."""

    def __repr__(self) -> str:
        questions = (
            f"{format_count(len(self.question_ids), 'question')} of {next(iter(self.funnel.values()), 0):,} asked"
        )
        cut = f"t_cut = {self.t_cut}", f"ref = {self.ref:.1f}", f"alpha = {self.alpha:g}"
        return short_repr(self, questions, format_count(len(self.places), "row"), *cut, f"score_on = {self.score_on!r}")

    @property
    def note(self) -> str | None:
        """Return a sentence if fewer questions were left than K asked for, or too few for any metric, else None."""
        if self.too_few is not None:
            return f"{self.too_few}, so the metrics were not measured"
        if self.k is None or len(self.question_ids) >= self.k:
            return None
        return f"{self.k} questions were wanted and {len(self.question_ids)} were left, so all are compared"

    @validate_arguments
    def by_question(self, values: Float64Array, rows: Sequence[int] | None = None) -> Float64Array:
        """Average values over each question's rows, leaving out NaN.

        Args:
            values: one value a row, float64 [rows].
            rows: which rows the values are of; by default all.

        Returns:
            One value a question, float64 [K]; NaN for a question without any value.

        Raises:
            RLCircuitsError: there is not one value a row.
        """
        found: list[list[float]] = [[] for _ in self.question_ids]
        rows = range(len(self.places)) if rows is None else rows
        if values.shape != (len(rows),):
            raise RLCircuitsError(
                f"values has the shape {values.shape}; one number for each of {len(rows)} rows is wanted"
            )
        for row, value in zip(rows, values.tolist(), strict=True):
            if not math.isnan(value):
                found[self.places[row]].append(value)
        return np.array([_mean(each) for each in found])


@validate_arguments
def pair(
    before: Answers,
    after: Answers,
    *,
    alpha: float = defaults.ALPHA,
    k: int | None = None,
    balance: float = defaults.BALANCE,
    seed: int = defaults.SEED,
    min_questions: int = defaults.MIN_QUESTIONS,
    score_on: ScoreOn = defaults.SCORE_ON,
    gold: Mapping[str, Sequence[int]] | None = None,
) -> Pairing:
    """Pair two checkpoints' answers to one question set, by the protocol of this module.

    Args:
        before: answers of the checkpoint that training started from.
        after: answers of the checkpoint that training ended with, drawn with the same sampling.
        alpha: share of the reference answer length that is scored.
        k: questions to compare; None for all that pass.
        balance: largest difference allowed between a question's two answer lengths, as a share of their mean.
        seed: seed of the sample of K questions.
        min_questions: fewest questions compared.
        score_on: whose answers are scored; see :data:`~rlcircuits.common.choices.SCORE_ON`.
        gold: token ids of each question's gold answer; needed for ``score_on="gold"`` only.

    Raises:
        TooFewQuestionsError: fewer than `min_questions` are left; the message shows the funnel. Its attribute
            `pairing` is a pairing of no question.
        RLCircuitsError: an option is out of range, question sets or sampling differ, a question was answered more often
            than the sampling says, or a gold answer is missing or empty.
    """
    check_options(alpha, k, balance, min_questions, score_on)
    _check_same_task(before, after)
    funnel = Funnel.of(before, after)
    funnel.keep(ANSWER_STAGES)
    ref = reference_length(funnel.pairs)
    funnel.keep(length_stages(ref, balance))
    too_few = None
    if len(funnel.left) < min_questions:
        too_few = f"{len(funnel.left)} questions are left to compare and at least {min_questions} are needed"
    else:
        funnel.sample(k, seed)
    compared = [] if too_few else funnel.left
    t_cut = max(math.floor(alpha * ref), 1)
    rows = _rows(compared, funnel.pairs, score_on, gold)
    paired = Pairing(
        question_ids=tuple(compared),
        before=tuple(row.before.truncated(t_cut) for row in rows),
        after=tuple(row.after.truncated(t_cut) for row in rows),
        places=tuple(row.place for row in rows),
        samples=tuple(row.samples for row in rows),
        t_cut=t_cut,
        ref=ref,
        alpha=alpha,
        balance=balance,
        k=k,
        funnel=funnel.counts,
        dropped_ids=funnel.dropped,
        score_on=score_on,
        too_few=too_few,
    )
    if too_few:
        raise TooFewQuestionsError(f"{too_few}: {show_funnel(funnel.counts)}", paired)
    return paired


def check_options(
    alpha: float,
    k: int | None,
    balance: float,
    min_questions: int = defaults.MIN_QUESTIONS,
    score_on: str = defaults.SCORE_ON,
) -> None:
    """Raise RLCircuitsError for a number out of range, a K below `min_questions`, or an unknown `score_on`."""
    numbers = {"alpha": alpha, "k": k, "balance": balance, "min_questions": min_questions}
    for name, value in numbers.items():
        if value is not None:
            check_number(name, value)
    if k is not None and k < min_questions:
        raise RLCircuitsError(f"k is {k}; a paired test needs at least {min_questions} questions (min_questions)")
    if score_on not in SCORE_ON:
        raise RLCircuitsError(f"score_on is {score_on!r}; it must be one of {', '.join(SCORE_ON)}")


def _check_same_task(before: Answers, after: Answers) -> None:
    """Raise RLCircuitsError unless both answered the same question set with the same sampling."""
    if (before.question_set, before.split) != (after.question_set, after.split):
        raise RLCircuitsError(
            f"before answers {before.question_set} ({before.split}) and after {after.question_set} "
            f"({after.split}); a pair needs the same question set and split"
        )
    if before.sampling != after.sampling:
        raise RLCircuitsError(
            f"before was sampled with {before.sampling} and after with {after.sampling}; a pair needs the same sampling"
        )


@dataclass(frozen=True)
class _Row:
    """One row of a pairing, before its sequences are cut."""

    place: int
    samples: tuple[int, ...]
    before: AnswerSequence
    after: AnswerSequence


def _rows(
    questions: Sequence[str], pairs: AnswerPairs, score_on: ScoreOn, gold: Mapping[str, Sequence[int]] | None
) -> list[_Row]:
    """Return the rows of these questions: one for each pair of answers.

    A gold answer would be the same in each of its question's rows, so that question has a single row for all samples.
    """
    samples: dict[str, list[int]] = {question: [] for question in questions}
    for question, sample in sorted(pairs, key=lambda key: key[1]):
        if question in samples:
            samples[question].append(sample)
    rows = []
    for place, question in enumerate(questions):
        groups = [tuple(samples[question])] if score_on == "gold" else [(sample,) for sample in samples[question]]
        for group in groups:
            before, after = pairs[question, group[0]]
            ids = _scored_ids(question, before, after, score_on, gold)
            answers = zip((before, after), ids, strict=True)
            both = (AnswerSequence(answer.prompt_ids, own, answer.images) for answer, own in answers)
            rows.append(_Row(place, group, *both))
    return rows


def _scored_ids(
    question: str, before: Answer, after: Answer, score_on: ScoreOn, gold: Mapping[str, Sequence[int]] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the token ids that before and after are scored on."""
    if score_on == "gold":
        ids = tuple((gold or {}).get(question, ()))
        if not ids:
            raise RLCircuitsError(
                f"question {question!r} has no gold answer to score; score_on 'gold' needs one of each"
            )
        return ids, ids
    own = {"before": before.answer_ids, "after": after.answer_ids}
    return (own["before"], own["after"]) if score_on == "own" else (own[score_on], own[score_on])


def _mean(values: Sequence[float]) -> float:
    """Return the mean. Neither the order of the values nor repeating all of them changes it.

    The sum is exact and the division's rounding is corrected, as in `statistics.mean`, which takes 17 times as long.
    """
    if not values:
        return math.nan
    rounded_twice = math.fsum(values) / len(values)
    return rounded_twice + math.fsum([*values, *[-rounded_twice] * len(values)]) / len(values)
