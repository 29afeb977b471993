"""Confidence that accuracy did not pay for.

The study (Learning Dynamics in RL Post-Training, CF-RL, arXiv 2601.04670) claims that RL raises a model's confidence
whatever it learns, because its features are too much alike. A model's confidence in an answer of T tokens is their
geometric mean probability, exp((1/T) Σ_t log p_t).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlcircuits.comparison.effects import paired_effect
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.scored_answers import ScoredAnswers, common_questions
from rlcircuits.vital_signs.sign import Sign, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import CF_RL

__all__ = ["OwnAnswers", "confidences", "unearned_confidence"]

_NAME, _UNIT = "unearned_confidence", "probability"


@dataclass(frozen=True, eq=False)
class OwnAnswers:
    """A model's answers and what the same model says of them.

    Raises:
        RLCircuitsError: the table is of other answers.
    """

    answers: ScoredAnswers
    table: AnswerLogProbs

    def __post_init__(self) -> None:
        self.answers.check(self.table)


def confidences(table: AnswerLogProbs) -> Float64Array:
    """Return a model's confidence in each answer, exp(mean log p of its tokens), float64 [answers], from 0 to 1.

    Args:
        table: the model's log-probabilities of the answers. Uniform logits give 1 / V.
    """
    return np.asarray(np.exp(table.means(table.log_probs)))


def unearned_confidence(before: OwnAnswers, after: OwnAnswers) -> Sign:
    """Return how much more confidence rose than accuracy did.

    U = Δ mean_q exp(mean log p of the model's own answer) − Δ accuracy, after − before, where a question's value is the
    mean over its answers. So each question's value is its confidence less its share of right answers.

    Args:
        before: the model before's own answers and its table of them. Take both tables at temperature 1 for the model's
            own confidence; the study's definition. Another temperature is told in ``details``.
        after: the same of the model after.

    Returns:
        A sign that is in trouble where U rose and accuracy did not: the lower end of the 95 % interval of accuracy's
        change is at most 0. Confidence that rises with accuracy is what training on verifiable tasks is for, so it is
        no alarm. ``details`` has both confidences, accuracies and mean token entropies (nats).
    """
    ours, theirs = common_questions(before.answers.questions, after.answers.questions)
    if not len(ours):
        return not_measurable(_NAME, CF_RL, _UNIT, "before and after answered no question in common")
    old, new = (_values(own)[places] for own, places in ((before, ours), (after, theirs)))
    accuracies = [_accuracies(own)[places] for own, places in ((before, ours), (after, theirs))]
    accuracy = paired_effect("accuracy", *accuracies)
    temperatures = sorted({before.table.temperature, after.table.temperature})
    details: dict[str, object] = {
        "confidence": [float((value + right).mean()) for value, right in zip((old, new), accuracies, strict=True)],
        "accuracy": [accuracy.before, accuracy.after],
        "accuracy_interval": list(accuracy.interval),
        "entropy": [_entropy(own, places) for own, places in ((before, ours), (after, theirs))],
        "temperature": temperatures,
    }
    if len(temperatures) > 1:
        note = f"before is scored at temperature {before.table.temperature:g}, after at {after.table.temperature:g}"
        return not_measurable(_NAME, CF_RL, _UNIT, note, details=details)
    sign = paired_sign(
        _NAME,
        CF_RL,
        _UNIT,
        "confidence in own answers less accuracy",
        old,
        new,
        worse="up",
        details=details,
    )
    if sign.outcome == "trouble" and accuracy.interval[0] > 0:
        note = f"{sign.note}; it rose more than accuracy, and accuracy rose too"
        return replace(sign, outcome="no alarm", note=note)
    return sign


def _values(own: OwnAnswers) -> Float64Array:
    return own.answers.means(confidences(own.table)) - _accuracies(own)


def _accuracies(own: OwnAnswers) -> Float64Array:
    return own.answers.means(own.answers.right.astype(np.float64))


def _entropy(own: OwnAnswers, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    return float(own.answers.means(own.table.means(own.table.entropies))[places].mean())
