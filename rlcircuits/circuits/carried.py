"""How much of a model another checkpoint's circuit carries at one size, with an interval over the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.evaluate import HowAblated, evaluate_masks
from rlcircuits.circuits.logit_metrics import log_probability
from rlcircuits.circuits.nodes import prune
from rlcircuits.circuits.select import edge_count, ranking_values, top_edges
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence

_NAN = float("nan")


@dataclass(frozen=True)
class Carried:
    """The faithfulness f of two circuits in one model; NaN if all edges do no better or worse than none."""

    other: float
    """Of the other checkpoint's circuit."""
    own: float
    """Of the model's own circuit."""
    interval: tuple[float, float]
    """The percentiles 2.5 and 97.5 of ``other`` over resampled sequences, widened to hold it."""
    n_edges: int
    """The edges of each circuit, before pruning."""


def carried_at_size(
    checkpoint: Checkpoint,
    sequences: Sequence[AnswerSequence],
    own: EdgeScores,
    other: EdgeScores,
    size: float,
    how: HowAblated,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Carried:
    """Run both circuits in the model, and return how faithful they are; see ``faithfulness`` for f.

    Args:
        checkpoint: the model whose edges are removed.
        sequences: what both circuits are judged on, one a question.
        own: the model's own scores, of other sequences.
        other: the other checkpoint's scores, of the same graph.
        size: the share of the edges; a circuit has at least one edge. Edges are ranked by |score|.
        how: what replaces the other edges.
        resamples: how often the sequences are resampled.
        seed: seed of the resampling.
    """
    graph = own.graph
    count = max(1, edge_count(graph, size))
    circuits = [prune(graph, top_edges(graph, ranking_values(each, "absolute"), count)) for each in (own, other)]
    masks = [graph.mask, torch.zeros_like(graph.mask), *circuits]
    metric = evaluate_masks(checkpoint, sequences, graph, masks, log_probability, how).metric
    drawn = np.random.default_rng(seed).multinomial(
        len(sequences), np.full(len(sequences), 1 / len(sequences)), size=resamples
    )
    full, empty, _, resampled = metric @ drawn.T
    full_mean, empty_mean, own_mean, other_mean = metric.mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (np.array([own_mean, other_mean]) - empty_mean) / (full_mean - empty_mean)
        again = (resampled - empty) / (full - empty)
    if not np.isfinite(found).all() or not np.isfinite(again).all():
        return Carried(_NAN, _NAN, (_NAN, _NAN), count)
    low, high = np.percentile(again, (2.5, 97.5))
    return Carried(
        other=float(found[1]),
        own=float(found[0]),
        interval=(min(float(low), float(found[1])), max(float(high), float(found[1]))),
        n_edges=count,
    )
