"""The contraction as matrix products: at each position W×width times width×R, summed over positions."""

from __future__ import annotations

import torch
from torch import Tensor


def contract_matmul(writes: Tensor, grads: Tensor) -> Tensor:
    """−Σ_pos,width writes · grads, with float32 accumulation.

    writes: [W, batch, pos, width]; grads: [R, batch, pos, width], any floating dtype.
    Returns [batch, W, R], float32 (float64 for float64 inputs).

    One product a position keeps all cores busy; a single product over pos·width has few rows and columns
    to share out. Half-precision inputs are widened first: a half-precision product would round each
    score to the inputs' precision.
    """
    work = torch.float64 if writes.dtype == torch.float64 else torch.float32
    _, batch, pos, _ = writes.shape
    left = writes.to(work).flatten(1, 2).transpose(0, 1)
    right = grads.to(work).flatten(1, 2).permute(1, 2, 0)
    by_position = torch.bmm(left, right)
    return by_position.view(batch, pos, *by_position.shape[1:]).sum(1).neg_()
