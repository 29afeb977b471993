"""How many tokens a batch of an ablated forward may have."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlcircuits.attribution.memory_budget import CPU_BATCH_TOKENS, MemoryBudget, itemsize
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.sequences import AnswerSequence

_CPU_BYTES = 2**30
_SHARE = 0.4
"""The share of an accelerator's free memory that the writers' outputs may take."""


def ablation_budget(
    checkpoint: Checkpoint, graph: EdgeGraph, sequences: Sequence[AnswerSequence], batch_tokens: int | None
) -> MemoryBudget:
    """Return the budget of batches in which every writer's output is kept, twice for ``resample``.

    Raises:
        RLCircuitsError: a budget below one token, or a sequence that the model cannot score.
    """
    if batch_tokens is None:
        nodes = 2 * len(graph.writers) + 2 * len(graph.readers) // len(checkpoint.parts.blocks)
        per_token = nodes * checkpoint.parts.width * itemsize(checkpoint)
        if checkpoint.device.type == "cuda":
            batch_tokens = max(1, int(_SHARE * torch.cuda.mem_get_info(checkpoint.device)[0]) // per_token)
        else:
            batch_tokens = max(1, min(CPU_BATCH_TOKENS, _CPU_BYTES // per_token))
    return MemoryBudget(checkpoint, sequences, batch_tokens)
