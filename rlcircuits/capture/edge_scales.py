"""What the blocks multiply a writer's output by on its way to a reader.

A block may multiply the whole stream by a learned scalar at its end (Gemma 4). With s_j the scalar of block j, o_u what
writer u adds within block a, and x_v the stream that reader v of block b reads,

    x_v = Σ_u f[u, v] o_u,      f[u, v] = s_a · s_{a+1} ⋯ s_{b−1}.

The embedding is written at the first block's input, and the unembedding reads behind the last block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.parts import ModelParts

__all__ = ["edge_scales"]


def edge_scales(parts: ModelParts, graph: EdgeGraph) -> Tensor | None:
    """Return f, float64 [writers, readers] on the CPU, 1 where there is no edge; None if no block has a scalar.

    Args:
        parts: The parts of the model.
        graph: The graph of the writers and readers.
    """
    if all(block.stream_scalar is None for block in parts.blocks):
        return None
    scalars = [1.0 if block.stream_scalar is None else float(block.stream_scalar) for block in parts.blocks]
    between = torch.ones(len(scalars) + 1, len(scalars) + 1, dtype=torch.float64)  # [block of u, block of v]
    for first in range(len(scalars)):
        between[first, first + 1 :] = torch.tensor(scalars[first:], dtype=torch.float64).cumprod(0)
    written_in = torch.tensor([_block(name, 0) for name in graph.writers])
    read_in = torch.tensor([_block(name, len(scalars)) for name in graph.readers])
    return between[written_in[:, None], read_in]


def _block(node: str, otherwise: int) -> int:
    """``attn.3.h1.q`` → 3; ``otherwise`` for the embedding and the unembedding."""
    return int(node.split(".")[1]) if "." in node else otherwise
