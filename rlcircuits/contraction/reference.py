"""The definition of the contraction, in float64. Slow, and what every other backend is tested against."""

from __future__ import annotations

import torch
from torch import Tensor


def contract_reference(writes: Tensor, grads: Tensor) -> Tensor:
    """−Σ_pos,width writes · grads.

    writes: [W, batch, pos, width]; grads: [R, batch, pos, width], any floating dtype.
    Returns float64 [batch, W, R].
    """
    return -torch.einsum("wbtd,rbtd->bwr", writes.double(), grads.double())
