"""Which edges changed: the paired difference of each edge's score, tested over the questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlcircuits.comparison.paired_statistics import signed_rank
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.metrics import Float64Array


@dataclass(frozen=True)
class ChangedEdge:
    """One edge's change from before to after."""

    writer: str
    reader: str
    before: float
    """Mean score of before, in nats."""
    after: float
    """Mean score of after."""
    p: float
    """Two-sided p-value of Wilcoxon's signed-rank test over the questions."""
    q: float
    """The same, adjusted over all edges by Benjamini and Hochberg: the false discovery rate at which it is found."""
    stability: tuple[float, float]
    """The shares of resampled questions in which the edge is in before's and in after's circuit of a tenth of the
    edges."""

    @property
    def change(self) -> float:
        """The mean paired difference, after − before, in nats."""
        return self.after - self.before


def edge_p_values(before: Float64Array, after: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return each edge's p-value and its adjusted value, [edges] each.

    Args:
        before: scores by question, [questions, edges].
        after: the same of after.
    """
    difference = after - before
    p = np.array([signed_rank(column, "two-sided") for column in difference.T])
    return p, stats.false_discovery_control(p) if len(p) else p


def change_by_part(graph: EdgeGraph, change: Float64Array) -> dict[str, float]:
    """Return the share of the summed absolute change that goes into each kind of reader and into each layer.

    Args:
        graph: the graph.
        change: the mean paired difference of each edge, in the order of ``graph.mask``, [edges].

    Returns:
        ``q``, ``k``, ``v``, ``mlp`` and ``logits``, then ``layer 0`` and so on; the logits belong to no layer.
    """
    readers = [graph.readers[v] for _, v in graph.mask.nonzero().tolist()]
    kinds = [name.rsplit(".", 1)[-1] if name[-2:] in (".q", ".k", ".v") else name.split(".")[0] for name in readers]
    layers = [f"layer {name.split('.')[1]}" if "." in name else "" for name in readers]
    total = float(np.abs(change).sum()) or 1.0
    parts = dict.fromkeys(["q", "k", "v", "mlp", "logits", *sorted(set(layers) - {""}, key=_number)])
    return {
        part: float(
            sum(abs(one) for one, kind, layer in zip(change, kinds, layers, strict=True) if part in (kind, layer))
        )
        / total
        for part in parts
    }


def _number(layer: str) -> int:
    return int(layer.split()[1])
