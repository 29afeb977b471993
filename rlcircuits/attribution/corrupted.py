"""What corrupted sequences must be: one for each sequence, of the same lengths."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence, check_sequences

__all__ = ["check_corrupted_sequences", "check_number_of_corrupted"]


def check_number_of_corrupted(sequences: Sequence[AnswerSequence], corrupted: Sequence[AnswerSequence]) -> None:
    """Raise RLCircuitsError unless there are as many corrupted sequences as sequences."""
    if len(corrupted) != len(sequences):
        raise RLCircuitsError(
            f"{len(corrupted)} corrupted sequences for {len(sequences)} sequences; one each is needed"
        )


def check_corrupted_sequences(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], corrupted: Sequence[AnswerSequence]
) -> None:
    """Raise RLCircuitsError unless each sequence has a corrupted one of the same lengths that the model can score."""
    check_number_of_corrupted(sequences, corrupted)
    for index, (clean, other) in enumerate(zip(sequences, corrupted, strict=True)):
        lengths = [(len(s.prompt_ids), len(s.answer_ids)) for s in (clean, other)]
        if lengths[0] != lengths[1]:
            raise RLCircuitsError(
                f"corrupted sequence {index} has {lengths[1][0]} prompt and {lengths[1][1]} answer tokens; "
                f"sequence {index} has {lengths[0][0]} and {lengths[0][1]}, and positions must match one to one"
            )
    parts = checkpoint.parts
    check_sequences(corrupted, vocabulary=parts.vocabulary, context=parts.context, what="corrupted sequence")
