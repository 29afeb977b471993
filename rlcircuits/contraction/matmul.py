"""The contraction as matrix products: at each position W×width times width×R, summed over positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.contraction.devices import sent
from rlcircuits.felt import Felt


def contract_matmul(writers: Sequence[Tensor], readers: Sequence[Felt], edges: Tensor) -> Tensor:
    """−Σ_pos,width writes · grads on every edge, with float32 accumulation.

    writers, readers: tensors [nodes, batch, pos, width] of any floating dtype, all on one device. edges: bool [W, R],
    in their order. Returns [batch, W, R], float32 (float64 for float64 inputs).

    One product a position keeps all cores busy; a single product over pos·width has few rows and columns to share
    out. Half-precision inputs are widened first: a half-precision product would round each score to the inputs'
    precision.
    """
    (written,) = side_by_side(writers)
    seen = int(edges.any(dim=1).nonzero().max()) + 1 if edges.any() else 0  # later writers are not multiplied
    # A direction stands among the readers: what each writer has along it then costs no pass of its own.
    directions = {id(direction): direction for felt in readers for _, direction in felt.less}
    (grads,) = side_by_side([*(felt.grads for felt in readers), *(d[None] for d in directions.values())])
    _, batch, pos, _ = grads.shape
    left = written[:seen].flatten(1, 2).transpose(0, 1)
    right = grads.flatten(1, 2).permute(1, 2, 0)
    products = torch.bmm(left, right).view(batch, pos, seen, len(grads))
    found = products[..., : edges.shape[1]].sum(1)
    along = dict(zip(directions, products[..., edges.shape[1] :].unbind(-1), strict=True))
    first = 0
    for felt in readers:
        for coefficients, direction in felt.less:
            less = torch.einsum("btw,rbt->bwr", along[id(direction)], coefficients.to(found.dtype))
            found[:, :, first : first + len(felt.indices)] -= less
        first += len(felt.indices)
    scores = found.new_zeros(batch, *edges.shape)
    scores[:, :seen] = found.neg_().mul_(sent(edges[:seen], found.device))
    return scores


def side_by_side(tensors: Sequence[Tensor]) -> list[Tensor]:
    """All nodes in one tensor, float32 (float64 for float64 inputs)."""
    work = torch.float64 if tensors[0].dtype == torch.float64 else torch.float32
    if len(tensors) == 1:
        return [tensors[0].to(work)]
    return [torch.cat([tensor.to(work) for tensor in tensors])]
