"""Which question a sequence is an answer to, by its prompt."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.measurement import Measurement

__all__ = ["question_ids"]


def question_ids(measurement: Measurement, source: Source, sequences: Sequence[AnswerSequence], what: str) -> list[str]:
    """Return the id of the question that each sequence answers.

    Args:
        measurement: the pair.
        source: a model, for its tokenizer.
        sequences: answers to the pair's questions.
        what: what is wanted of the questions, for messages.

    Raises:
        RLCircuitsError: prompts that the questions do not give, as recorded ones may be.
    """
    questions = measurement.questions.questions
    prompts = measurement.settings.prompting.prompts(source.tokenizer(), [question.text for question in questions])
    question_of = {prompt: question.id for prompt, question in zip(prompts, questions, strict=True)}
    strange = sum(sequence.prompt_ids not in question_of for sequence in sequences)
    if strange:
        raise RLCircuitsError(
            f"{measurement.questions.name}: {strange} of {len(sequences)} answers have prompts that the questions do "
            f"not give, so that their {what} are not known; give the prompting that the answers were recorded with, or "
            f"leave {what.removesuffix('s')} out"
        )
    return [question_of[sequence.prompt_ids] for sequence in sequences]
