"""Both models' mean edge scores, and which edges changed, from a pair's stored scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlcircuits.answers.recorded import Side
from rlcircuits.circuits.by_question import scores_by_question
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.paired_statistics import signed_rank_columns
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.metrics import Float64Array, activation_intensity
from rlcircuits.release.stored_pair import StoredPair

__all__ = ["EdgeMeans", "mean_edges"]

_MOST_TESTED = 10_000_000
"""Most scores, questions times edges, for which each edge's change is tested: a few seconds."""


@dataclass(frozen=True, eq=False)
class EdgeMeans:
    """Mean scores over the compared questions, in nats, in the order of ``graph.mask``."""

    graph: EdgeGraph
    places: NDArray[np.int64]
    """Row (writer) and column (reader) of each edge, int64 [edges, 2]."""
    before: Float64Array
    """Each edge's mean score of before, [edges]."""
    after: Float64Array
    q: Float64Array | None
    """Each edge's two-sided p of Wilcoxon's signed-rank test over the questions, adjusted by Benjamini and Hochberg,
    [edges]; None where there are too many edges to test."""
    questions: int

    @property
    def change(self) -> Float64Array:
        """Return after − before, [edges]."""
        return self.after - self.before


def mean_edges(pair: StoredPair) -> EdgeMeans:
    """Return the mean edge scores of both sides; each question has the same weight.

    Raises:
        RLCircuitsError: a file is missing or damaged, or the scores are not those of the pair's answers.
    """
    places, before, after = pair.pairing.places, pair.scores["before"], pair.scores["after"]
    if not before.graph.same_as(after.graph) or {len(before), len(after)} != {len(places)}:
        raise RLCircuitsError("the scores are not those of the answers beside them; measure the pair again")
    graph = before.graph
    for side, scores in pair.scores.items():
        if not scores.values.isfinite().all():
            raise RLCircuitsError(f"the scores of {side} hold NaN or Inf; the file is damaged: measure the pair again")
        if not _has_stated_intensity(pair, side):
            raise RLCircuitsError(
                f"the scores of {side} are others than those that comparison.json is of, by their intensity; measure "
                "the pair again"
            )
    ours, theirs = (scores_by_question(scores, places) for scores in (before, after))
    q = None
    if ours.size <= _MOST_TESTED:
        p = signed_rank_columns(theirs - ours)
        q = stats.false_discovery_control(p) if len(p) else p
    return EdgeMeans(graph, graph.mask.nonzero().numpy(), ours.mean(0), theirs.mean(0), q, len(ours))


def _has_stated_intensity(pair: StoredPair, side: Side) -> bool:
    """Return whether a side's scores have the intensity of each question that ``comparison.json`` has of them."""
    places, effect = np.array(pair.pairing.places), pair.stored.effects["intensity"]
    found = np.bincount(places, weights=activation_intensity(pair.scores[side])) / np.bincount(places)
    stated = effect.before_values if side == "before" else effect.after_values
    return len(found) == len(stated) and np.allclose(found, stated, rtol=1e-4, atol=0)
