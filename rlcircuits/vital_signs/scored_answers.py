"""A model's answers as arrays, question by question, for the signs that score them.

An answer without any token has nothing to score and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs, sequences_key

__all__ = ["ScoredAnswers", "common_questions", "scored_answers", "scoring_temperature"]


@dataclass(frozen=True, eq=False)
class ScoredAnswers:
    """The answers of one model that have tokens, in the order of its answers."""

    model: str
    sampling: Sampling
    sequences: tuple[AnswerSequence, ...]
    """What to score, one for each answer."""
    questions: tuple[str, ...]
    """The ids of the questions, each once, in the order of their first answer."""
    rows: npt.NDArray[np.int64]
    """int64 [answers]: the place of each answer's question in ``questions``."""
    right: npt.NDArray[np.bool_]
    """bool [answers]: the grades."""

    def __repr__(self) -> str:
        return short_repr(
            self, format_count(len(self.sequences), "answer"), f"to {format_count(len(self.questions), 'question')}"
        )

    def check(self, table: AnswerLogProbs) -> None:
        """Raise RLCircuitsError unless a table is of these answers."""
        if table.key != sequences_key(self.sequences):
            raise RLCircuitsError(
                f"the log-probabilities of {table.model!r} are of other answers than those of {self.model!r}; "
                f"score scored_answers(answers).sequences"
            )

    def means(self, values: Float64Array, where: npt.NDArray[np.bool_] | None = None) -> Float64Array:
        """Return each question's mean over its answers, float64 [questions]; NaN where it has none.

        Args:
            values: one number an answer, float64 [answers].
            where: bool [answers], the answers that count; by default all.
        """
        chosen = np.ones(len(self.rows), dtype=bool) if where is None else where
        rows = self.rows[chosen]
        count = np.bincount(rows, minlength=len(self.questions))
        total = np.bincount(rows, weights=values[chosen], minlength=len(self.questions))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def first_answers(self) -> npt.NDArray[np.int64]:
        """Return the place of each question's first answer, int64 [questions]."""
        return np.unique(self.rows, return_index=True)[1]


def scored_answers(answers: Answers) -> ScoredAnswers:
    """Return a model's answers as arrays.

    Args:
        answers: its answers to a question set.
    """
    items = [item for item in answers.items if item.answer_ids]
    places = {name: place for place, name in enumerate(dict.fromkeys(item.question_id for item in items))}
    return ScoredAnswers(
        model=answers.model,
        sampling=answers.sampling,
        sequences=tuple(AnswerSequence(item.prompt_ids, item.answer_ids, item.images) for item in items),
        questions=tuple(places),
        rows=np.array([places[item.question_id] for item in items], dtype=np.int64),
        right=np.array([item.correct for item in items], dtype=bool),
    )


def scoring_temperature(sampling: Sampling) -> float:
    """Return the temperature at which answers that were drawn so are to be scored: their own, or 1 of greedy ones."""
    return sampling.temperature or 1.0


def common_questions(
    first: Sequence[str], second: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the places in both of the questions that both have, in the order of the first, int64 [common] each."""
    theirs = {question: place for place, question in enumerate(second)}
    pairs = [(place, theirs[question]) for place, question in enumerate(first) if question in theirs]
    ours, others = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return ours, others
