"""The metric that a pair's settings name, with what it takes from the questions: the foil of each."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.attribution.attributed_metrics import AttributedMetric
from rlcircuits.attribution.divergence import kl_to
from rlcircuits.attribution.token_difference import first_token, logit_diff
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.choices import KL, LOGIT_DIFF
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.asked_prompts import question_ids
from rlcircuits.release.measurement import Measurement

__all__ = ["check_foils", "metric_of"]


def metric_of(
    measurement: Measurement, source: Source, other: Source, sequences: Sequence[AnswerSequence]
) -> str | AttributedMetric:
    """Return what is differentiated.

    Args:
        measurement: the pair.
        source: the model that is scored.
        other: the other model of the pair, for ``kl``.
        sequences: what it is scored on, for the foil of each one's question.
    """
    metric = measurement.settings.metric
    if metric == KL:
        return kl_to(other)
    if metric != LOGIT_DIFF or not _has_foils(measurement):
        return metric
    tokenizer = source.tokenizer()
    foils = {question.id: question.foil or "" for question in measurement.questions.questions}
    ids = question_ids(measurement, source, sequences, "foils")
    return logit_diff(foil=[first_token(tokenizer, foils[name], f"the foil of question {name!r}") for name in ids])


def check_foils(measurement: Measurement) -> None:
    """Raise RLCircuitsError, before a model runs, for foils that the metric does not take."""
    if _has_foils(measurement) and measurement.settings.metric != LOGIT_DIFF:
        raise RLCircuitsError(
            f"the question set {measurement.questions.name} names foils, and metric is "
            f"{measurement.settings.metric!r}, which takes none; use the metric {LOGIT_DIFF}, or leave foil out of "
            "[[questions]]"
        )


def _has_foils(measurement: Measurement) -> bool:
    questions = measurement.questions.questions
    return bool(questions) and questions[0].foil is not None
