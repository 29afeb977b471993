"""The protocol that makes two checkpoints' answers comparable: from answers to scored sequences.

Six steps, after arXiv 2509.21044 (the ranges in brackets are what its authors ran):

1. each model answered the question (an empty answer is none);
2. both answers are right;
3. both models saw equally many prompt tokens;
4. lengths: ref is the smaller of the two models' mean answer length over the questions kept so far; keep a
   question whose mean length lies within [0.5, 1.5] x ref;
5. and whose two lengths differ by at most `balance` x their mean (0.1, 0.5, 0.6);
6. sample K questions with a fixed seed.

With n answers to every question, before's sample j is paired with after's sample j, a matching that does not look at
the answers. The steps are then of these pairs of answers, and a question is kept as long as one of its pairs is. A
question counts once: in the funnel, and in ref, by the mean lengths of its pairs that are left. Of the K questions all
pairs that are left are scored, and a question's value is the mean over them (:meth:`Pairing.by_question`).

The answers are then cut to the first T_cut = max(⌊alpha · ref⌋, 1) tokens (alpha 0.03 to 0.5), the same for
both models; an answer shorter than T_cut is scored whole. Lengths are in tokens, the end token included.

Each model is scored on its own answer, as in the paper, so that the two are scored on different tokens. The
variants of :data:`SCORE_ON` let both score the same tokens after their own prompts, on the same questions and
with the same T_cut: what of an effect comes from the answers, and what from the model, can then be told apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import SCORE_ON, ScoreOn
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers
    from rlcircuits.answers.types import Answer

LENGTH_WINDOW = (0.5, 1.5)
"""A question's mean answer length must lie within these multiples of ref."""

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


class TooFewQuestionsError(RLCircuitsError):
    """Raised where fewer questions are left to compare than are needed."""


@dataclass(frozen=True)
class Pairing:
    """Two checkpoints' answers to the same questions, cut to the same length.

    `before[i]` and `after[i]` are a row: they are compared with one another and answer question `places[i]` of
    `question_ids`. Questions are in the question set's order, a question's rows in that of its samples.
    """

    question_ids: tuple[str, ...]
    before: tuple[AnswerSequence, ...]
    after: tuple[AnswerSequence, ...]
    places: tuple[int, ...]
    """Each row's question; one row a question where there is one answer to each, or where gold answers are scored."""
    samples: tuple[tuple[int, ...], ...]
    """Each row's samples of the answers that were paired; several where the row is of the gold answer."""
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
    score_on: ScoreOn = defaults.SCORE_ON

    def __repr__(self) -> str:
        asked = next(iter(self.funnel.values()), 0)
        questions = f"{format_count(len(self.question_ids), 'question')} of {asked:,} asked"
        cut = f"t_cut = {self.t_cut}", f"ref = {self.ref:.1f}", f"alpha = {self.alpha:g}"
        return short_repr(self, questions, format_count(len(self.places), "row"), *cut, f"score_on = {self.score_on!r}")

    @property
    def note(self) -> str | None:
        """One sentence where fewer questions were left than K asked for, else None."""
        if len(self.question_ids) >= self.k:
            return None
        return f"{self.k} questions were wanted and {len(self.question_ids)} were left, so all are compared"

    @validate_arguments
    def by_question(self, values: Float64Array, rows: Sequence[int] | None = None) -> Float64Array:
        """Average a number a row into a number a question: float64 [rows] -> [K].

        rows: which rows the values are of; all of them by default. Values that are NaN are left out; a question
        without any other has NaN.
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
    k: int = defaults.K,
    balance: float = defaults.BALANCE,
    seed: int = defaults.SEED,
    min_questions: int = defaults.MIN_QUESTIONS,
    score_on: ScoreOn = defaults.SCORE_ON,
    gold: Mapping[str, Sequence[int]] | None = None,
) -> Pairing:
    """Pair the answers of two checkpoints to one question set, by the protocol above.

    `gold` holds the token ids of each question's gold answer, by question; only ``score_on="gold"`` needs it.

    Raises RLCircuitsError for options out of range, answers to different question sets, a question answered
    more often than the sampling's `n`, different sampling, a gold answer that is missing or empty, or fewer than
    `min_questions` questions left (with the funnel).
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
    left, right = _by_sample(before, "before"), _by_sample(after, "after")
    asked = list(dict.fromkeys(question for question, _ in (*left, *right)))
    stages = [asked]
    pairs = {key: (left[key], right[key]) for key in left if key in right}

    def keep(passes: Callable[[Answer, Answer], bool]) -> None:
        """The next stage: the pairs of answers that pass, and the questions that have one."""
        for key in [key for key, both in pairs.items() if not passes(*both)]:
            del pairs[key]
        left_over = {question for question, _ in pairs}
        stages.append([question for question in stages[-1] if question in left_over])

    keep(lambda ours, theirs: bool(ours.answer_ids and theirs.answer_ids))
    keep(lambda ours, theirs: ours.correct and theirs.correct)
    keep(lambda ours, theirs: len(ours.prompt_ids) == len(theirs.prompt_ids))
    ref = _reference(pairs)
    keep(lambda ours, theirs: _near(_lengths(ours, theirs), ref))
    keep(lambda ours, theirs: _balanced(_lengths(ours, theirs), balance))

    if len(stages[-1]) < min_questions:
        raise TooFewQuestionsError(
            f"{len(stages[-1])} questions are left to compare and at least {min_questions} are needed: "
            f"{show_funnel(_count(stages))}"
        )
    stages.append(_sample(stages[-1], k, seed))
    t_cut = max(math.floor(alpha * ref), 1)
    rows = _rows(stages[-1], pairs, score_on, gold)
    return Pairing(
        question_ids=tuple(stages[-1]),
        before=tuple(row.before.truncated(t_cut) for row in rows),
        after=tuple(row.after.truncated(t_cut) for row in rows),
        places=tuple(row.place for row in rows),
        samples=tuple(row.samples for row in rows),
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
    """A control's answers: `sequences[i]` stands beside row `rows[i]` of a pairing, of question `places[i]`."""

    rows: tuple[int, ...]
    places: tuple[int, ...]
    sequences: tuple[AnswerSequence, ...]

    def __repr__(self) -> str:
        return short_repr(self, format_count(self.k, "question"), format_count(len(self.rows), "row"))

    @property
    def k(self) -> int:
        """Questions that it is compared on."""
        return len(set(self.places))


def pair_control(pairing: Pairing, before: Answers, control: Answers) -> ControlPairing:
    """Pick those of the pairing's rows that a control compares with `before` on: right, and of a length with it.

    The control (before, with noise) is held to the pairing's own ref, balance and T_cut, sample by sample. `before`
    are the answers that `pairing` was made of. Rows the control has no right answer to are left out, without a
    least number: see :class:`~rlcircuits.comparison.comparison.ControlDraw`.
    """
    left, right = _by_sample(before, "before"), _by_sample(control, "control's")
    rows: list[int] = []
    sequences: list[AnswerSequence] = []
    for row, (place, samples, shared) in enumerate(zip(pairing.places, pairing.samples, pairing.before, strict=True)):
        keys = [(pairing.question_ids[place], sample) for sample in samples]
        chosen = [right[key] for key in keys if key in right and _compares(left[key], right[key], pairing)]
        if not chosen:
            continue
        own = AnswerSequence(chosen[0].prompt_ids, chosen[0].answer_ids).truncated(pairing.t_cut)
        rows.append(row)
        sequences.append(own if pairing.score_on == "own" else shared)
    return ControlPairing(tuple(rows), tuple(pairing.places[row] for row in rows), tuple(sequences))


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


@dataclass(frozen=True)
class _Row:
    """What is compared with one another: two answers to a question, or what stands for them."""

    place: int
    samples: tuple[int, ...]
    before: AnswerSequence
    after: AnswerSequence


_Pairs = Mapping[tuple[str, int], tuple["Answer", "Answer"]]
"""The answers of before and after by question and sample."""


def _rows(
    questions: Sequence[str], pairs: _Pairs, score_on: ScoreOn, gold: Mapping[str, Sequence[int]] | None
) -> list[_Row]:
    """The rows of these questions; a gold answer would be the same in every row of its question, so it has one."""
    samples: dict[str, list[int]] = {question: [] for question in questions}
    for question, sample in sorted(pairs, key=lambda key: key[1]):
        if question in samples:
            samples[question].append(sample)
    rows = []
    for place, question in enumerate(questions):
        together = [tuple(samples[question])] if score_on == "gold" else [(sample,) for sample in samples[question]]
        for chosen in together:
            before, after = pairs[question, chosen[0]]
            ids = _scored_answers(question, before, after, score_on, gold)
            both = (AnswerSequence(answer.prompt_ids, own) for answer, own in zip((before, after), ids, strict=True))
            rows.append(_Row(place, chosen, *both))
    return rows


def _reference(pairs: _Pairs) -> float:
    """The smaller of the two models' mean answer length, over questions: of each the mean over its pairs."""
    lengths: dict[str, list[tuple[int, int]]] = {}
    for (question, _), both in pairs.items():
        lengths.setdefault(question, []).append(_lengths(*both))
    if not lengths:
        return 0.0
    return float(np.array([np.mean(each, axis=0) for each in lengths.values()]).mean(axis=0).min())


def _compares(before: Answer, control: Answer, pairing: Pairing) -> bool:
    lengths = _lengths(before, control)
    right = control.correct and bool(control.answer_ids)
    return right and _near(lengths, pairing.ref) and _balanced(lengths, pairing.balance)


def _lengths(before: Answer, after: Answer) -> tuple[int, int]:
    return len(before.answer_ids), len(after.answer_ids)


def _mean(values: Sequence[float]) -> float:
    """Exact before it is rounded once: neither the order nor repeating all values changes it."""
    if not values:
        return math.nan
    return values[0] if len(values) == 1 else statistics.mean(values)


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


def _by_sample(answers: Answers, side: str) -> dict[tuple[str, int], Answer]:
    """The answers by question and sample."""
    n = answers.sampling.n
    found: dict[tuple[str, int], Answer] = {}
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


def check_options(
    alpha: float,
    k: int,
    balance: float,
    min_questions: int = defaults.MIN_QUESTIONS,
    score_on: str = defaults.SCORE_ON,
) -> None:
    """Raise RLCircuitsError for a number outside its limits, a K too small to test, or another word for score_on."""
    numbers = {"alpha": alpha, "k": k, "balance": balance, "min_questions": min_questions}
    for name, value in numbers.items():
        check_number(name, value)
    if k < min_questions:
        raise RLCircuitsError(f"k is {k}; a paired test needs at least {min_questions} questions (min_questions)")
    if score_on not in SCORE_ON:
        raise RLCircuitsError(f"score_on is {score_on!r}; it must be one of {', '.join(SCORE_ON)}")
