"""The contraction by itself: writers and the last group of readers of a model, random, as attribution hands them on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from shapes import Shape
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads
from rlcircuits.common.devices import pending_grads_bytes, readers_per_contraction
from rlcircuits.graph.edge_graph import build_graph


@dataclass(frozen=True)
class Inputs:
    """What a backend is given, the fewest bytes it must read and the fewest operations."""

    writers: list[Tensor]
    readers: list[ReaderGrads]
    edges: Tensor
    nbytes: int
    flops: int

    @classmethod
    def draw(
        cls,
        shape: Shape,
        device: torch.device,
        dtype: torch.dtype,
        sequences: int,
        length: int,
        granularity: str = "sublayer",
    ) -> Inputs:
        """All writers of the graph, and as many of its last readers as are contracted together.

        A sublayer's nodes of a kind are one tensor, as they are made.
        """
        graph = build_graph(shape.layers, shape.heads, granularity)
        tokens = sequences * length
        each = tokens * shape.width * dtype.itemsize
        together = min(len(graph.readers), readers_per_contraction(device))
        if granularity == "sublayer":  # what is held back counts whole; of heads, only the gradients at their features
            together = min(together, pending_grads_bytes(device) // each + 1)
        generator = torch.Generator(device).manual_seed(0)

        def draw(names: tuple[str, ...]) -> list[Tensor]:
            counts = [len(list(nodes)) for _, nodes in groupby(names, _sublayer_and_kind)]
            return [
                torch.randn(n, sequences, length, shape.width, device=device, dtype=dtype, generator=generator)
                for n in counts
            ]

        writers, grads = draw(graph.writers), draw(graph.readers[-together:])
        starts = [sum(map(len, grads[:i])) for i in range(len(grads))]
        readers = [ReaderGrads(range(s, s + len(g)), g) for s, g in zip(starts, grads, strict=True)]
        edges = graph.mask[:, -together:]
        flops = 2 * int(edges.sum()) * tokens * shape.width
        return cls(writers, readers, edges, (len(graph.writers) + together) * each, flops)


def _sublayer_and_kind(name: str) -> tuple[str, ...]:
    """``attn.0.h3.q`` → attn, 0, q; the writer ``attn.0.h3`` → attn, 0."""
    kind, *rest = name.split(".")
    return kind, *rest[:1], *(part for part in rest[1:] if not part.startswith("h"))
