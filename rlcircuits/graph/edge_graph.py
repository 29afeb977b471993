"""The graph of a residual stream: who writes, who reads, and which edges exist."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr

Granularity = Literal["sublayer", "head", "kv-head"]
GRANULARITIES: tuple[str, ...] = get_args(Granularity)


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """Names of the writers and readers of a residual stream and the edges between them.

    writers: ``embed``, ``attn.0``, ``mlp.0``, … (head granularity: ``attn.0.h3``)
    readers: ``attn.0.q``, ``attn.0.k``, ``attn.0.v``, ``mlp.0``, …, ``logits`` (``attn.0.h3.q``; a key/value
        head's ``attn.0.kv1.k``)
    mask: bool [writers, readers], true where the writer has written before the reader reads.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    mask: Tensor

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        nodes = format_count(len(self.writers), "writer"), format_count(len(self.readers), "reader")
        return short_repr(self, self.granularity, *nodes, format_count(self.n_edges, "edge"))

    @property
    def n_edges(self) -> int:
        """The number of edges that exist."""
        return int(self.mask.sum())

    @cached_property
    def granularity(self) -> Granularity:
        """``sublayer``; or ``head`` or ``kv-head`` if attention heads are nodes of their own."""
        if any(".kv" in name for name in self.readers):
            return "kv-head"
        return "head" if any(".h" in name for name in self.writers) else "sublayer"

    @validate_arguments
    def same_as(self, other: EdgeGraph) -> bool:
        """Whether both graphs have the same names and the same edges."""
        return self.writers == other.writers and self.readers == other.readers and torch.equal(self.mask, other.mask)


def build_graph(
    n_layers: int, n_heads: int, granularity: str, *, parallel: bool = False, n_kv_heads: int | None = None
) -> EdgeGraph:
    """Build the graph of a decoder with ``n_layers`` blocks of ``n_heads`` query heads.

    granularity: ``sublayer``; ``head``, where each query head reads its own copy of the k and v it uses; or
    ``kv-head``, where each of ``n_kv_heads`` (by default ``n_heads``) has one reader k and one v. parallel: attention
    and MLP of a block read the same stream (GPT-NeoX, GPT-J), so that there is no edge between them. A sequential
    model has 4L² + 3L + 1 edges at sublayer granularity. Raises RLCircuitsError for another granularity.
    """
    check_granularity(granularity)
    heads = [""] if granularity == "sublayer" else [f".h{h}" for h in range(n_heads)]
    shared = [f".kv{h}" for h in range(n_kv_heads or n_heads)] if granularity == "kv-head" else heads
    # Each node's moment: a writer of moment m is seen by readers of moment > m.
    writers: list[tuple[str, int]] = [("embed", -1)]
    readers: list[tuple[str, int]] = []
    for layer in range(n_layers):
        attention, mlp = 2 * layer, 2 * layer + (0 if parallel else 1)
        writers += [(f"attn.{layer}{head}", attention) for head in heads]
        writers += [(f"mlp.{layer}", 2 * layer + 1)]
        for kind, reading in (("q", heads), ("k", shared), ("v", shared)):
            readers += [(f"attn.{layer}{head}.{kind}", attention) for head in reading]
        readers += [(f"mlp.{layer}", mlp)]
    readers += [("logits", 2 * n_layers)]
    written = torch.tensor([moment for _, moment in writers])
    read = torch.tensor([moment for _, moment in readers])
    return EdgeGraph(
        writers=tuple(name for name, _ in writers),
        readers=tuple(name for name, _ in readers),
        mask=written[:, None] < read[None, :],
    )


def check_granularity(granularity: str) -> None:
    """Raise RLCircuitsError unless ``granularity`` is one of GRANULARITIES."""
    if granularity not in GRANULARITIES:
        raise RLCircuitsError(f"granularity is {granularity!r}; it must be one of {', '.join(GRANULARITIES)}")
