"""Made-up answers and tables of them, for the signs that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs, sequences_key
from rlcircuits.vital_signs.scored_answers import ScoredAnswers, scored_answers


def made_answers(
    grades: Sequence[Sequence[bool]], tokens: Sequence[Sequence[tuple[int, ...]]] | None = None, **sampling: Any
) -> Answers:
    """Return answers to questions q0, q1, …: a list of grades for each, and token ids, by default all different."""
    n = max(map(len, grades))
    items = []
    for question, marks in enumerate(grades):
        for sample, right in enumerate(marks):
            ids = (3 + question, 3 + sample, 2) if tokens is None else tokens[question][sample]
            items.append(Answer(f"q{question}", (1, 3 + question), ids, "", right, True, sample=sample))
    options = {"temperature": 1.0, **sampling, "n": n}
    return Answers("made-up", "few", "test", Sampling(**options), tuple(items))


def made_table(
    answers: Answers | ScoredAnswers,
    log_probs: Sequence[float] | np.ndarray,
    entropies: Sequence[float] | np.ndarray | None = None,
    vocabulary: int = 16,
    **fields: Any,
) -> AnswerLogProbs:
    """Return a table of the answers with these log-probabilities, one a token."""
    scored = answers if isinstance(answers, ScoredAnswers) else scored_answers(answers)
    lengths = np.array([len(each.answer_ids) for each in scored.sequences], dtype=np.int64)
    numbers = np.array(log_probs, dtype=np.float64)
    return AnswerLogProbs(
        model="made-up",
        key=sequences_key(scored.sequences),
        temperature=fields.pop("temperature", 1.0),
        vocabulary=vocabulary,
        offsets=np.concatenate(([0], lengths.cumsum())),
        log_probs=numbers,
        entropies=np.zeros_like(numbers) if entropies is None else np.array(entropies, dtype=np.float64),
        top_log_probs=numbers,
        **fields,
    )
