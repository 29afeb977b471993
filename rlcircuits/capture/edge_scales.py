"""What the blocks multiply a writer's output by on its way to a reader.

A block may multiply the whole stream by a learned scalar at its end (Gemma 4). With s_j the scalar of block j, o_u what
writer u adds within block a, and x_v the stream that reader v of block b reads,

    x_v = Σ_u f[u, v] o_u,      f[u, v] = s_a · s_{a+1} ⋯ s_{b−1}.

The embedding is written at the first block's input, and the unembedding reads behind the last block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcircuits.common.devices import to_device_async
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.models.parts import ModelParts

__all__ = ["edge_scales"]


def edge_scales(parts: ModelParts, graph: EdgeGraph, device: torch.device | None = None) -> Tensor | None:
    """Return f, float64 [writers, readers], 1 where there is no edge; None if no block has a scalar.

    Args:
        parts: The parts of the model.
        graph: The graph of the writers and readers.
        device: Where f is computed, by default the CPU. On an accelerator that holds the scalars nothing waits for it.
    """
    scalars = [block.stream_scalar for block in parts.blocks]
    if all(scalar is None for scalar in scalars):
        return None
    device = device or torch.device("cpu")
    one = torch.ones(1, dtype=torch.float64, device=device)
    factors = [one if scalar is None else scalar.detach().reshape(1).to(device, torch.float64) for scalar in scalars]
    # [block of u, block of v], of which the last is behind all blocks: f is a product along the second from s_a on.
    is_later = torch.ones(len(scalars) + 1, len(scalars) + 1, dtype=torch.bool, device=device).triu(1)
    between = torch.where(is_later, torch.cat([one, *factors]), one).cumprod(1)
    written_in, read_in = (
        to_device_async(torch.tensor([_block(name, otherwise) for name in names]), device)
        for names, otherwise in ((graph.writers, 0), (graph.readers, len(scalars)))
    )
    return between[written_in[:, None], read_in]


def _block(node: str, otherwise: int) -> int:
    """``attn.3.h1.q`` → 3; ``otherwise`` for the embedding and the unembedding."""
    return int(node.split(".")[1]) if "." in node else otherwise
