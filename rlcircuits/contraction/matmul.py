"""The contraction as one batched matrix product: W×(pos·width) times (pos·width)×R for each sequence."""

from __future__ import annotations

import torch
from torch import Tensor


def contract_matmul(writes: Tensor, grads: Tensor) -> Tensor:
    """−Σ_pos,width writes · grads, with float32 accumulation.

    writes: [W, batch, pos, width]; grads: [R, batch, pos, width], any floating dtype.
    Returns [batch, W, R], float32 (float64 for float64 inputs).

    Half-precision inputs are widened first: a half-precision product would round each score to
    the inputs' precision.
    """
    work = torch.float64 if writes.dtype == torch.float64 else torch.float32
    left = writes.to(work).flatten(2).transpose(0, 1)
    right = grads.to(work).flatten(2).permute(1, 2, 0)
    return torch.bmm(left, right).neg_()
