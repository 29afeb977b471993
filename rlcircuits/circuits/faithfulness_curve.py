"""How much of what a model does its circuit does: the faithfulness curve, CPR and CMD.

As the MIB benchmark defines them (Mueller et al. 2025, arXiv 2504.13151). For a share p of the edges, the circuit C_p
is the int(p · E) edges of the highest score, pruned. With m the mean of a metric over the sequences, N all edges and ∅
none,

    f(p) = (m(C_p) − m(∅)) / (m(N) − m(∅)).

CPR, the circuit performance ratio, is the area under f over the ten shares, by trapezoids on a linear axis from .001 to
1; CMD, the circuit-model distance, that under |1 − f|. CPR ranks edges by signed score, CMD by |score|. A circuit that
does all that the model does at every size has CPR .999 and CMD 0; one that does nothing until it holds every edge has
CPR .25 and CMD .749.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.evaluate import Evaluated, HowAblated, evaluate_masks
from rlcircuits.circuits.logit_metrics import Metric, log_probability
from rlcircuits.circuits.nodes import prune
from rlcircuits.circuits.select import edge_count, ranking_values, top_edges
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import short_repr
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.edge_tables import import_pandas
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence

if TYPE_CHECKING:
    import pandas as pd

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of the edges at which MIB evaluates a circuit."""


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """A faithfulness curve."""

    sizes: tuple[float, ...]
    """The shares of all edges, ascending."""
    n_edges: tuple[int, ...]
    """The edges of each circuit, after pruning."""
    faithfulness: Float64Array
    """f at each size, [sizes]; NaN if all edges do no better or worse than none."""
    metric: Float64Array
    """The metric of each circuit, the mean over the sequences, [sizes]."""
    kl: Float64Array
    """KL(model ‖ circuit), the mean over answer tokens and sequences, in nats, [sizes]."""
    accuracy: Float64Array
    """The share of sequences whose every answer token is the most likely one, [sizes]. Sampled answers have others,
    even with all edges."""
    full: float
    """The metric of all edges: m(N)."""
    empty: float
    """The metric of no edge: m(∅)."""
    ranking: str
    """``absolute`` or ``signed``."""
    ablation: str
    """What replaced the other edges."""

    def __repr__(self) -> str:
        return short_repr(self, f"CPR {self.cpr:.3f}", f"CMD {self.cmd:.3f}", self.ranking, self.ablation)

    @property
    def cpr(self) -> float:
        """The area under f: how much of the model's metric the circuits have."""
        return area(self.sizes, self.faithfulness)

    @property
    def cmd(self) -> float:
        """The area under |1 − f|: how far the circuits' metric is from the model's."""
        return area(self.sizes, np.abs(1 - self.faithfulness))

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each size. Raises RLCircuitsError if pandas is not installed."""
        frame = import_pandas().DataFrame
        columns = ("n_edges", "faithfulness", "metric", "kl", "accuracy")
        found: pd.DataFrame = frame({"size": self.sizes, **{name: getattr(self, name) for name in columns}})
        return found


@validate_arguments
def faithfulness(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    scores: EdgeScores,
    ablation: str = "mean",
    *,
    ranking: str = "absolute",
    metric: Metric | None = None,
    corrupted: Sequence[AnswerSequence] | None = None,
    reference: Sequence[AnswerSequence] | None = None,
    sizes: Sequence[float] = MIB_SIZES,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> Faithfulness:
    """Return the faithfulness curve of the circuits that the scores rank highest.

    The scores may come from other sequences than those judged, as in MIB, and from another checkpoint of the same
    graph, so that the curve says whether its circuits do what this model does.

    Args:
        checkpoint: the model whose circuits are run: a Hugging Face causal LM, ``Checkpoint`` or ``TransformerBridge``.
        sequences: what the circuits are judged on.
        scores: what ranks the edges, by their mean over the scores' sequences.
        ablation: what replaces the edges outside a circuit, see ``ablated``.
        ranking: ``absolute`` or ``signed``, see ``find_circuit``.
        metric: what is measured, [batch] of logits and a batch, higher is better; by default the mean log-probability
            of the answer tokens. ``circuits.logit_difference`` is MIB's.
        corrupted: for ``resample``, one for each sequence, of the same prompt and answer lengths.
        reference: for the means, the sequences over which is averaged; by default ``sequences``.
        sizes: the shares of the edges, ascending, above 0 and at most 1; by default MIB's.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        progress: show a progress bar on stderr.

    Raises:
        RLCircuitsError: sizes that do not ascend, no sequence, scores of another graph, or what ``ablated`` refuses.
    """
    how = HowAblated(ablation, corrupted, reference, batch_tokens, progress)
    values = ranking_values(scores, ranking)
    return make_curves(checkpoint, sequences, scores.graph, [values], ranking, sizes, metric, how)[0]


def make_curves(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    graph: EdgeGraph,
    values: Sequence[Tensor],
    ranking: str,
    sizes: Sequence[float],
    metric: Metric | None,
    how: HowAblated,
) -> list[Faithfulness]:
    """Return a curve for each ranking of the edges. All edges and none are run once for all curves.

    Args:
        checkpoint: The model whose circuits are run.
        sequences: What the circuits are judged on.
        graph: The graph of the edges.
        values: What ranks the edges, [writers, readers] for each curve.
        ranking: What the rankings are called.
        sizes: The shares of the edges, ascending.
        metric: What is measured, as in ``faithfulness``.
        how: What replaces removed edges.
    """
    curves = [_curve_masks(graph, each, check_sizes(sizes)) for each in values]
    masks = [graph.mask, torch.zeros_like(graph.mask), *(mask for curve in curves for mask in curve)]
    found = evaluate_masks(Checkpoint.of(checkpoint), list(sequences), graph, masks, metric or log_probability, how)
    starts = range(2, len(masks), len(sizes))
    return [
        _make_curve(found, slice(start, start + len(sizes)), tuple(sizes), curve, ranking, how.ablation)
        for start, curve in zip(starts, curves, strict=True)
    ]


def check_sizes(sizes: Sequence[float]) -> Sequence[float]:
    """Return the sizes. Raises RLCircuitsError unless there are two or more, ascending, above 0 and at most 1."""
    if len(sizes) < 2 or not all(0 < a < b <= 1 for a, b in pairwise(sizes)):
        raise RLCircuitsError(f"sizes is {tuple(sizes)}; two or more ascending shares above 0 and at most 1 are wanted")
    return sizes


def _curve_masks(graph: EdgeGraph, values: Tensor, sizes: Sequence[float]) -> list[Tensor]:
    """Return the pruned circuit of each size, bool [writers, readers] each; size 1 is the whole graph."""
    return [
        graph.mask if size == 1 else prune(graph, top_edges(graph, values, edge_count(graph, float(size))))
        for size in sizes
    ]


def _make_curve(
    found: Evaluated, rows: slice, sizes: tuple[float, ...], masks: Sequence[Tensor], ranking: str, ablation: str
) -> Faithfulness:
    """Return the curve of the masks in ``rows`` of what was evaluated, whose first rows are all edges and none."""
    full, empty = found.metric[:2].mean(1)
    metric = found.metric[rows].mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(full == empty, np.nan, (metric - empty) / (full - empty))
    return Faithfulness(
        sizes=sizes,
        n_edges=tuple(int(mask.sum()) for mask in masks),
        faithfulness=ratio,
        metric=metric,
        kl=found.kl[rows].mean(1),
        accuracy=found.kept[rows].mean(1),
        full=float(full),
        empty=float(empty),
        ranking=ranking,
        ablation=ablation,
    )


def area(sizes: Sequence[float], values: Float64Array) -> float:
    """Return the area under a curve by trapezoids, from the first size to the last on a linear axis."""
    return float(np.trapezoid(values, sizes))
