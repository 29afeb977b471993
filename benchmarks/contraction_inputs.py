"""The contraction by itself: writers and the last group of readers of a model, random, as attribution hands them on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapes import Shape
from torch import Tensor

from rlcircuits.contraction.devices import held_bytes, readers_at_a_time
from rlcircuits.felt import Felt
from rlcircuits.graph import build_graph


@dataclass(frozen=True)
class Inputs:
    """What a backend is given, and the fewest bytes it must read."""

    writers: list[Tensor]
    readers: list[Felt]
    edges: Tensor
    nbytes: int

    @classmethod
    def draw(cls, shape: Shape, device: torch.device, dtype: torch.dtype, sequences: int, length: int) -> Inputs:
        """All writers of the sublayer graph, and as many of its last readers as are contracted together."""
        graph = build_graph(shape.layers, shape.heads, "sublayer")
        size = sequences, length, shape.width
        each = sequences * length * shape.width * dtype.itemsize
        together = min(len(graph.readers), readers_at_a_time(device), held_bytes(device) // each + 1)
        generator = torch.Generator(device).manual_seed(0)

        def draw() -> Tensor:
            return torch.randn(size, device=device, dtype=dtype, generator=generator)

        writers = [draw()[None] for _ in graph.writers]
        readers = [Felt(range(i, i + 1), draw()[None]) for i in range(together)]
        return cls(writers, readers, graph.mask[:, -together:], (len(writers) + together) * each)
