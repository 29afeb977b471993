"""Which edges of a graph are kept: one mask for all sequences, or one a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcircuits.attribution.edge_attribution import graph_of
from rlcircuits.capture.model_graph import granularities
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph


@dataclass(frozen=True, eq=False)
class EdgeMask:
    """The share of each edge that is kept.

    Args:
        graph: The graph of the edges.
        removed: float64 [1 or sequences, writers, readers] on the CPU: 0 where an edge is kept and 1 where it is
            removed, or the share of it that is removed. 0 where there is no edge.
    """

    graph: EdgeGraph
    removed: Tensor

    def of(self, indices: tuple[int, ...]) -> EdgeMask:
        """Return the masks of the sequences at ``indices``; one mask for all stays one."""
        return self if len(self.removed) == 1 else EdgeMask(self.graph, self.removed[list(indices)])


def edge_mask(checkpoint: Checkpoint, graph_mask: Any, count: int) -> EdgeMask:
    """Return a mask that a user gave.

    Args:
        checkpoint: The checkpoint whose edges are meant.
        graph_mask: bool or floating [writers, readers] or [sequences, writers, readers], a tensor or an array; or
            anything with such a ``mask``, which may have a ``graph`` too (a ``Circuit``). True or 1 keeps an edge.
        count: The number of sequences.

    Raises:
        RLCircuitsError: a shape that fits no granularity of the checkpoint's graph, a number of masks other than one
            or ``count``, a share outside 0 to 1, or a circuit of another graph or of experts.
    """
    graph = getattr(graph_mask, "graph", None)
    keep = _as_tensor(getattr(graph_mask, "mask", graph_mask))
    if keep.ndim == 2:
        keep = keep[None]
    found = "graph_mask has the shape [" + ", ".join(map(str, keep.shape)) + "]"
    if keep.ndim != 3 or len(keep) not in (1, count):
        raise RLCircuitsError(
            f"{found}; [writers, readers] or [sequences, writers, readers] with {count} sequences is wanted"
        )
    if graph is not None:
        check_can_ablate(graph.granularity)
    can = [each for each in granularities(checkpoint.parts) if each != "expert"]
    graphs = [graph_of(checkpoint, granularity) for granularity in can]
    fitting = [each for each in graphs if each.mask.shape == keep.shape[1:]]
    if not fitting:
        allowed = ", ".join(f"{g.granularity} {list(g.mask.shape)}" for g in graphs)
        raise RLCircuitsError(f"{found}; the writers and readers of {checkpoint.name} are one of {allowed}")
    if graph is not None and not any(graph.same_as(each) for each in fitting):
        raise RLCircuitsError(f"the circuit's graph is not that of {checkpoint.name}: its writers or readers differ")
    if not bool(((keep >= 0) & (keep <= 1)).all()):
        raise RLCircuitsError("graph_mask holds a number outside 0 to 1, the shares of an edge that can be kept")
    graph = graph or fitting[0]
    return EdgeMask(graph, (1 - keep) * graph.mask)


def check_can_ablate(granularity: str) -> None:
    """Raise RLCircuitsError for experts, whose edges no ablated forward removes."""
    if granularity == "expert":
        raise RLCircuitsError(
            "granularity is 'expert', whose edges cannot be removed from a forward: a token runs through the few "
            "experts that its router chose, and what replaces the others is not defined; use 'sublayer'"
        )


def check_graph(checkpoint: Checkpoint, graph: EdgeGraph) -> None:
    """Raise RLCircuitsError for a graph of experts, or one that is not the checkpoint's, although its shape may be."""
    check_can_ablate(graph.granularity)
    if not graph.same_as(graph_of(checkpoint, graph.granularity)):
        raise RLCircuitsError(f"the scores' graph is not that of {checkpoint.name}: its nodes or edges differ")


def _as_tensor(mask: Any) -> Tensor:
    """Return a mask as float64 on the CPU. Raises RLCircuitsError for anything that is not an array of numbers."""
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "biuf":
        mask = torch.from_numpy(mask.astype(np.float64))  # a copy, whatever the byte order and the strides
    if not isinstance(mask, Tensor) or mask.is_complex() or mask.layout != torch.strided or mask.is_meta:
        raise RLCircuitsError(
            f"graph_mask is a {type(mask).__name__}{_kind(mask)}; a dense tensor or array of numbers [writers, "
            "readers] or a Circuit is wanted"
        )
    return mask.detach().to("cpu", torch.float64)


def _kind(mask: Any) -> str:
    """Return what the entries of a tensor or an array are, in words."""
    if isinstance(mask, np.ndarray):
        return f" of {mask.dtype}"
    return f" of {mask.dtype}, {mask.layout} on {mask.device}" if isinstance(mask, Tensor) else ""
