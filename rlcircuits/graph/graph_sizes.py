"""Count the nodes and edges of a model's graph at each granularity, without building the large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlcircuits.common.choices import GRANULARITIES, Granularity
from rlcircuits.common.sublayers import Experts, LayerReads
from rlcircuits.graph.edge_graph import build_layered_graph, kv_heads_by_layer

__all__ = ["GraphSize", "graph_sizes"]


@dataclass(frozen=True)
class GraphSize:
    """How large a model's graph is."""

    granularity: Granularity
    writers: int
    readers: int
    edges: int

    @property
    def nodes(self) -> int:
        """The number of writers and readers together."""
        return self.writers + self.readers


def graph_sizes(
    layers: Sequence[LayerReads],
    n_heads: int,
    *,
    n_kv_heads: int | Sequence[int] | None = None,
    granularities: Sequence[Granularity] | None = None,
    experts: Sequence[Experts | None] = (),
) -> tuple[GraphSize, ...]:
    """Return the size of a decoder's graph at each granularity.

    At head granularity a large model has hundreds of millions of pairs of nodes. So each node of the sublayer graph is
    counted as often as there are heads of it, and each edge as often as there are pairs of them.

    Args:
        layers: the sublayers of each block, in groups that read the same stream.
        n_heads: number of query heads of an attention.
        n_kv_heads: number of key/value heads of an attention, or one number for each block; by default ``n_heads``.
        granularities: those that the model's graph can have; by default all, ``expert`` only with ``experts``.
        experts: for each block the experts of its MLP, or None where it is no mixture.
    """
    if granularities is None:
        granularities = [each for each in GRANULARITIES if each != "expert" or any(experts)]
    graph = build_layered_graph(layers, n_heads, "sublayer")
    found = []
    for granularity in granularities:
        heads = n_heads if granularity in ("head", "kv-head") else 1
        shared = kv_heads_by_layer(n_kv_heads if granularity == "kv-head" else heads, heads, len(layers))
        split = experts if granularity == "expert" else ()
        writers = torch.tensor([heads if name.startswith("attn.") else _count(name, split) for name in graph.writers])
        readers = torch.tensor([_readers_of(name, heads, shared) for name in graph.readers])
        edges = int(writers @ graph.mask.to(torch.int64) @ readers)
        found.append(GraphSize(granularity, int(writers.sum()), int(readers.sum()), edges))
    return tuple(found)


def _readers_of(reader: str, heads: int, kv_heads: Sequence[int]) -> int:
    """Return how many readers there are for one of the sublayer graph."""
    if not reader.startswith("attn."):
        return 1
    _, layer, kind = reader.split(".")
    return heads if kind == "q" else kv_heads[int(layer)]


def _count(writer: str, experts: Sequence[Experts | None]) -> int:
    """Return how many writers stand for a writer of the sublayer graph that is no attention."""
    sublayer, _, layer = writer.partition(".")
    split = experts[int(layer)] if sublayer == "mlp" and experts else None
    return 1 if split is None else split.count + split.shared
