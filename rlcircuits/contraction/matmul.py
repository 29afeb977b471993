"""The contraction as matrix products, one for each position, summed over the positions.

A reader's gradient comes as G, with the direction d that a norm's Jacobian still has to take off it. With n for
the width of the residual stream, at each position

    g = G − (G·d / n) d

A score therefore needs no corrected gradient g, only inner products with G and with d:

    −⟨o, g⟩ = −( ⟨o, G⟩ − ⟨o, d⟩ ⟨d, G⟩ / n )

``Matmul.contract`` computes them in two matrix products, with O, G and D the stacked writer outputs, reader gradients
and directions:

    O [G D]ᵀ    [batch, pos, W, R + D]: what each writer has along each gradient and along each direction
    D [G D]ᵀ    [batch, pos, D, R + D]: what each gradient has along each direction (the columns of D are not used)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads, storage_key
from rlcircuits.common.devices import to_device_async


class Matmul:
    """The backend ``matmul``, with two buffers that it reuses for the factors of its products.

    One product for each position keeps all cores busy; a single product over pos·width has too few rows and columns
    to share out. Half-precision inputs are widened first, because a half-precision product would round each score to
    the inputs' precision.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def prepare(self, writers: Sequence[Tensor]) -> list[Tensor]:
        """Return all writers in one tensor, which the next call overwrites."""
        return [self._stacked("writers", writers)]

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """Return −Σ_pos,width outputs · gradients on every edge, accumulated in float32.

        Args:
            writers: tensors [nodes, batch, pos, width] of any floating dtype.
            readers: gradients [nodes, batch, pos, width] of any floating dtype, on the writers' device.
            edges: bool [W, R] on the CPU; rows and columns in the order of ``writers`` and ``readers``.

        Returns:
            [batch, W, R], float32 (float64 for float64 inputs), 0 where there is no edge.
        """
        n_readers = edges.shape[1]
        # The writers after the last one that has an edge are not multiplied.
        n_writers = int(edges.any(dim=1).nonzero().max()) + 1 if edges.any() else 0
        outputs = self._stacked("writers", writers)[:n_writers]
        directions = {
            storage_key(reader.direction): reader.direction[None] for reader in readers if reader.direction is not None
        }
        # The directions stand behind the gradients, so that ⟨o, d⟩ comes out of the product that makes ⟨o, G⟩.
        stacked = self._stacked("readers", [*(reader.grads for reader in readers), *directions.values()])
        output_products = _products(outputs, stacked)
        found = output_products[..., :n_readers].sum(1)
        if directions:
            direction_products = _products(stacked[n_readers:], stacked)[..., :n_readers]
            applies = to_device_async(_direction_mask(readers, [*directions]), direction_products.device)
            mean_dots = direction_products.div(stacked.shape[-1]) * applies
            found -= torch.einsum("btwd,btdr->bwr", output_products[..., n_readers:], mean_dots)
        scores = found.new_zeros(len(found), *edges.shape)
        scores[:, :n_writers] = found.neg_().mul_(to_device_async(edges[:n_writers], found.device))
        return scores

    def _stacked(self, side: Literal["writers", "readers"], tensors: Sequence[Tensor]) -> Tensor:
        """Return all nodes in one tensor, float32 (float64 for float64 inputs), in the buffer of that side."""
        first = tensors[0]
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        if len(tensors) == 1:
            return first.to(dtype)
        size = sum(map(len, tensors)), *first.shape[1:]
        buffer = self._buffers.get(side)
        if buffer is None or buffer.numel() < math.prod(size) or (buffer.dtype, buffer.device) != (dtype, first.device):
            buffer = self._buffers[side] = torch.empty(math.prod(size), dtype=dtype, device=first.device)
        stacked = buffer[: math.prod(size)].view(size)
        for part, tensor in zip(stacked.split([len(tensor) for tensor in tensors]), tensors, strict=True):
            part.copy_(tensor)
        return stacked


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Return node · node at each position: [L, batch, pos, width] and [R, batch, pos, width] → [batch, pos, L, R]."""
    _, batch, pos, _ = right.shape
    by_position = torch.bmm(left.flatten(1, 2).transpose(0, 1), right.flatten(1, 2).permute(1, 2, 0))
    return by_position.view(batch, pos, len(left), len(right))


def _direction_mask(readers: Sequence[ReaderGrads], directions: Sequence[object]) -> Tensor:
    """Return which direction is taken off which reader's gradient: bool [directions, R]."""
    keys = [None if reader.direction is None else storage_key(reader.direction) for reader in readers]
    mask = torch.tensor([[direction == key for key in keys] for direction in directions])
    return mask.repeat_interleave(torch.tensor([len(reader.indices) for reader in readers]), dim=1)
