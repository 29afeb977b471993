"""The corrupted sequences of a pair whose questions have counterfactuals."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.attribution.counterfactuals import counterfactual_sequences
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.choices import EAP
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.asked_prompts import question_ids
from rlcircuits.release.measurement import Measurement


def corrupted_sequences(
    measurement: Measurement, source: Source, sequences: Sequence[AnswerSequence]
) -> list[AnswerSequence] | None:
    """Return each sequence with its question's counterfactual prompt; None if the question set has none.

    Raises:
        RLCircuitsError: prompts that the questions do not give, as recorded ones may be; or a counterfactual prompt of
            another number of tokens.
    """
    if not has_counterfactuals(measurement):
        return None
    questions = measurement.questions.questions
    texts = [question.counterfactual or "" for question in questions]
    others = measurement.settings.prompting.prompts(source.tokenizer(), texts)
    by_id = {question.id: prompt for question, prompt in zip(questions, others, strict=True)}
    ids = question_ids(measurement, source, sequences, "counterfactuals")
    return counterfactual_sequences(sequences, ids, by_id, f"the question set {measurement.questions.name}")


def has_counterfactuals(measurement: Measurement) -> bool:
    """Return whether the questions have counterfactuals, so that edges are patched."""
    questions = measurement.questions.questions
    return bool(questions) and questions[0].counterfactual is not None


def check_counterfactuals(questions: QuestionSet, method: str) -> None:
    """Raise RLCircuitsError, before a model runs, for a method that needs counterfactuals where there are none."""
    if method != EAP and not any(question.counterfactual for question in questions.questions):
        raise RLCircuitsError(
            f"method is {method!r}, which needs a counterfactual of each question, and the question set "
            f"{questions.name} has none; name its field with counterfactual in the table [[questions]], or use the "
            "method eap"
        )
