"""What a faithfulness curve is compared with: random circuits, and a circuit that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from rlcircuits.circuits.circuit import Circuit
from rlcircuits.circuits.evaluate import HowAblated
from rlcircuits.circuits.faithfulness_curve import MIB_SIZES, area, make_curves
from rlcircuits.circuits.logit_metrics import Metric
from rlcircuits.circuits.select import ranking_values
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence

_COVERED = (2.5, 97.5)
"""Percentiles of the draws between which the interval lies."""


@dataclass(frozen=True, eq=False)
class RandomCircuits:
    """The faithfulness of circuits whose edges are drawn at random, of the sizes of a curve."""

    sizes: tuple[float, ...]
    """The shares of all edges."""
    faithfulness: Float64Array
    """f of each draw at each size, [draws, sizes]."""
    interval: Float64Array
    """The percentiles 2.5 and 97.5 of f over the draws, at each size, [2, sizes]."""

    @property
    def cpr(self) -> tuple[float, float, float]:
        """The mean CPR over the draws, and its percentiles 2.5 and 97.5."""
        return self._over_draws(self.faithfulness)

    @property
    def cmd(self) -> tuple[float, float, float]:
        """The mean CMD over the draws, and its percentiles 2.5 and 97.5."""
        return self._over_draws(np.abs(1 - self.faithfulness))

    def _over_draws(self, values: Float64Array) -> tuple[float, float, float]:
        areas = [area(self.sizes, each) for each in values]
        low, high = np.percentile(areas, _COVERED)
        return float(np.mean(areas)), float(low), float(high)


@validate_arguments
def random_circuits(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    graph: EdgeGraph,
    ablation: str = "mean",
    *,
    draws: int = 20,
    seed: int = 0,
    metric: Metric | None = None,
    corrupted: Sequence[AnswerSequence] | None = None,
    reference: Sequence[AnswerSequence] | None = None,
    sizes: Sequence[float] = MIB_SIZES,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> RandomCircuits:
    """Return the faithfulness of random circuits: each draw ranks the edges at random, and is pruned like a circuit.

    Args:
        checkpoint: the model.
        sequences: what the circuits are judged on.
        graph: the graph whose edges are drawn.
        ablation: what replaces the other edges, see ``ablated``.
        draws: the number of rankings.
        seed: seed of the draws.
        metric: what is measured, as in ``faithfulness``.
        corrupted: for ``resample``, one for each sequence, of the same prompt and answer lengths.
        reference: for the means, the sequences over which is averaged; by default ``sequences``.
        sizes: the shares of the edges, ascending; by default MIB's.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        progress: show a progress bar on stderr.

    Raises:
        RLCircuitsError: fewer than one draw, or what ``faithfulness`` refuses.
    """
    if draws < 1:
        raise RLCircuitsError(f"draws is {draws}; at least one is needed")
    check_number("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    rankings = [torch.rand(graph.mask.shape, generator=generator, dtype=torch.float64) for _ in range(draws)]
    how = HowAblated(ablation, corrupted, reference, batch_tokens, progress)
    curves = make_curves(checkpoint, sequences, graph, rankings, "random", sizes, metric, how)
    values = np.stack([curve.faithfulness for curve in curves])
    return RandomCircuits(tuple(sizes), values, np.percentile(values, _COVERED, axis=0))


@validate_arguments
def auroc(scores: EdgeScores, known: Circuit, *, ranking: str = "absolute") -> float:
    """Return the area under the ROC curve of the scores against a known circuit.

    It is the chance that an edge of the circuit has a higher score than an edge outside it, ties counting half.

    Args:
        scores: the scores, by their mean over the sequences.
        known: the circuit.
        ranking: ``absolute`` or ``signed``.

    Raises:
        RLCircuitsError: a circuit of another graph, or one of no edge or of all.
    """
    if not scores.graph.same_as(known.graph):
        raise RLCircuitsError("the scores and the known circuit are of different graphs")
    values: Tensor = ranking_values(scores, ranking)
    inside, outside = values[known.mask].numpy(), values[known.graph.mask & ~known.mask].numpy()
    if not len(inside) or not len(outside):
        raise RLCircuitsError(f"the known circuit has {known.n_edges} of {known.graph.n_edges} edges; some are needed")
    return float(stats.mannwhitneyu(inside, outside).statistic) / (len(inside) * len(outside))
