"""The scores that circuits are found by: the run's, or for ``resample`` scores of the same replacement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.corruptions import have_others, other_sequences
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.split_questions import first_rows


def rows_of_half(sequences: Sequence[AnswerSequence], places: Sequence[int], parity: int, *, paired: bool) -> list[int]:
    """Return the first row of each question of one half.

    Args:
        sequences: one side's sequence of each row.
        places: the question of each row.
        parity: ``FIND`` or ``JUDGE``.
        paired: whether only sequences are wanted whose lengths another of them has.
    """
    rows = first_rows(places, parity)
    if not paired:
        return rows
    return [rows[place] for place in have_others([sequences[row] for row in rows])]


def patching_scores(
    checkpoint: Checkpoint,
    sequences: Sequence[AnswerSequence],
    granularity: str,
    *,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: bool = False,
    **estimator: Any,
) -> EdgeScores:
    """Attribute sequences with another of the same lengths in the place of each (activation patching).

    Args:
        checkpoint: the model.
        sequences: sequences whose lengths another of them has.
        granularity: nodes of the graph.
        seed: seed of which other stands for which.
        batch_tokens: most tokens in a batch.
        progress: show a progress bar.
        estimator: how the run's own scores were made: the arguments metric, method, steps, points and rules of
            ``attribute``.
    """
    return attribute(
        checkpoint,
        sequences,
        granularity,
        corrupted=other_sequences(sequences, seed=seed),
        batch_tokens=batch_tokens,
        progress=progress,
        **estimator,
    )
