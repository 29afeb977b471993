"""The scores of a graph's edges, question by question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.metrics import Float64Array

__all__ = ["scores_by_question"]


def scores_by_question(scores: EdgeScores, questions: Sequence[int] | None) -> Float64Array:
    """Return the scores of the graph's edges, the mean over each question's rows, float64 [questions, edges].

    Args:
        scores: one row for each sequence.
        questions: the question of each row, as a number; None where each row is a question of its own.
    """
    rows: Float64Array = scores.values[:, scores.graph.mask].double().numpy()
    if questions is None:
        return rows
    _, places, counts = np.unique(np.asarray(questions), return_inverse=True, return_counts=True)
    total = np.zeros((len(counts), rows.shape[1]))
    for place, row in zip(places.tolist(), rows, strict=True):
        total[place] += row
    total /= counts[:, None]
    return total
