"""Which edges changed: the paired difference of each edge's score, tested over the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.paired_statistics import signed_rank_columns
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_tables import edge_table
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    import pandas as pd


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


@dataclass(frozen=True, eq=False)
class ChangedEdges(Sequence[ChangedEdge]):
    """Every edge of a graph, the one that changed most first. A large graph has millions, which stay in arrays."""

    graph: EdgeGraph
    places: NDArray[np.int64]
    """The row and column in the graph of each edge, int64 [edges, 2]."""
    before: Float64Array
    """Mean score of before, [edges], in nats."""
    after: Float64Array
    """Mean score of after, [edges]."""
    p: Float64Array
    """See :class:`ChangedEdge`, [edges]."""
    q: Float64Array
    """See :class:`ChangedEdge`, [edges]."""
    stability: Float64Array
    """See :class:`ChangedEdge`, [2, edges]."""

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> ChangedEdge: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[ChangedEdge, ...]: ...

    def __getitem__(self, place: int | slice) -> ChangedEdge | tuple[ChangedEdge, ...]:
        if isinstance(place, slice):
            return tuple(self[each] for each in range(*place.indices(len(self))))
        writer, reader = self.places[place].tolist()
        return ChangedEdge(
            writer=self.graph.writers[writer],
            reader=self.graph.readers[reader],
            before=float(self.before[place]),
            after=float(self.after[place]),
            p=float(self.p[place]),
            q=float(self.q[place]),
            stability=(float(self.stability[0, place]), float(self.stability[1, place])),
        )

    def __repr__(self) -> str:
        return short_repr(self, format_count(len(self), "edge"))

    def n_changed(self, rate: float) -> int:
        """Return the number of edges that changed at a false discovery rate."""
        return int(np.count_nonzero(self.q <= rate))

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with one row for each edge, in the same order.

        Raises:
            RLCircuitsError: pandas is not installed.
        """
        return edge_table(
            self.graph,
            self.places,
            before=self.before,
            after=self.after,
            p=self.p,
            q=self.q,
            change=self.after - self.before,
            stability_before=self.stability[0],
            stability_after=self.stability[1],
        )


def make_changed_edges(
    graph: EdgeGraph, before: Float64Array, after: Float64Array, stability: Float64Array
) -> ChangedEdges:
    """Test each edge's change, and sort the edges by its size.

    Args:
        graph: the graph.
        before: scores by question, in the order of ``graph.mask``, [questions, edges].
        after: the same of after.
        stability: by side and edge, [2, edges].
    """
    p = signed_rank_columns(after - before)
    q = stats.false_discovery_control(p) if len(p) else p
    means = before.mean(0), after.mean(0)
    order = np.argsort(-np.abs(means[1] - means[0]), kind="stable")
    places = graph.mask.nonzero().numpy()
    return ChangedEdges(graph, places[order], means[0][order], means[1][order], p[order], q[order], stability[:, order])


def change_by_part(graph: EdgeGraph, change: Float64Array) -> dict[str, float]:
    """Return the share of the summed absolute change that goes into each kind of reader and into each layer.

    Args:
        graph: the graph.
        change: the mean paired difference of each edge, in the order of ``graph.mask``, [edges].

    Returns:
        ``q``, ``k``, ``v``, ``mlp`` and ``logits``, then ``layer 0`` and so on; the logits belong to no layer.
    """
    readers = graph.mask.nonzero()[:, 1].numpy()
    by_reader = np.bincount(readers, weights=np.abs(change), minlength=len(graph.readers))
    parts = dict.fromkeys(("q", "k", "v", "mlp", "logits"), 0.0)
    for name, size in zip(graph.readers, by_reader.tolist(), strict=True):
        parts[name.rsplit(".", 1)[-1] if name[-2:] in (".q", ".k", ".v") else name.split(".")[0]] += size
        if "." in name:
            layer = f"layer {name.split('.')[1]}"
            parts[layer] = parts.get(layer, 0.0) + size
    total = float(by_reader.sum()) or 1.0
    return {part: size / total for part, size in parts.items()}
