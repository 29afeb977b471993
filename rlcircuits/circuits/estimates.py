"""How well first-order scores estimate exact effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.edge_mask import check_graph
from rlcircuits.circuits.exact import Edge, exact_effects
from rlcircuits.circuits.select import ranking_values, top_edges
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.comparison.circuit_checks import Agreement
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence

__all__ = ["Agreement", "EstimateQuality", "estimate_quality"]


@dataclass(frozen=True, eq=False)
class EstimateQuality:
    """Estimates and exact effects of some edges."""

    edges: tuple[Edge, ...]
    estimates: Float64Array
    """[edges], the mean score over the sequences, in nats."""
    effects: Float64Array
    """[edges], the mean exact effect, in nats."""
    top: Agreement
    """Of the edges with the highest |score|."""
    random: Agreement
    """Of edges drawn at random from the others."""


@validate_arguments
def estimate_quality(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    scores: EdgeScores,
    *,
    count: int = 50,
    seed: int = 0,
    corrupted: Sequence[AnswerSequence] | None = None,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> EstimateQuality:
    """Compare the scores of the highest-ranked edges, and of random ones, with what removing each of them does.

    Args:
        checkpoint: the model that was scored.
        sequences: the sequences that were scored.
        scores: their scores.
        count: how many edges of either kind; as many as there are, if there are fewer.
        seed: seed of the random edges.
        corrupted: the corrupted sequences that the scores were made with; None for zero ablation.
        batch_tokens: most tokens in a batch; by default as many as fit the memory.
        progress: show a progress bar on stderr.

    Raises:
        RLCircuitsError: scores of another graph or number of sequences, a count below one, or what
            ``exact_effects`` refuses.
    """
    checkpoint, graph = Checkpoint.of(checkpoint), scores.graph
    check_graph(checkpoint, graph)
    if len(scores) != len(sequences):
        raise RLCircuitsError(
            f"scores hold {len(scores)} sequences, and {len(sequences)} were given; the same are wanted"
        )
    if count < 1:
        raise RLCircuitsError(f"count is {count}; at least one edge is wanted")
    check_number("seed", seed)
    best = top_edges(graph, ranking_values(scores, "absolute"), count)
    rest = (graph.mask & ~best).nonzero()
    generator = torch.Generator().manual_seed(seed)
    drawn = rest[torch.randperm(len(rest), generator=generator)[:count]]
    places = torch.cat([best.nonzero(), drawn])
    edges = [(graph.writers[u], graph.readers[v]) for u, v in places.tolist()]
    exact = exact_effects(
        checkpoint,
        sequences,
        edges,
        "zero" if corrupted is None else "resample",
        granularity=graph.granularity,
        corrupted=corrupted,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    estimates = scores.values.double().mean(0)[tuple(places.T)].numpy()
    effects = exact.values.double().mean(0).numpy()
    n_top = int(best.sum())
    return EstimateQuality(
        tuple(edges),
        estimates,
        effects,
        _agreement(estimates[:n_top], effects[:n_top]),
        _agreement(estimates[n_top:], effects[n_top:]),
    )


def _agreement(estimates: Float64Array, effects: Float64Array) -> Agreement:
    nan = float("nan")
    if not len(estimates):
        return Agreement(0, nan, nan)
    correlation = float(stats.spearmanr(estimates, effects).statistic) if len(estimates) > 2 else nan
    return Agreement(len(estimates), correlation, float(np.mean(np.sign(estimates) == np.sign(effects))))
