"""The contraction as matrix products: at each position W×width times width×R, summed over positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads, storage_key
from rlcircuits.common.devices import to_device_async


class Matmul:
    """Matrix products, and the memory in which their factors are laid side by side again and again.

    One product a position keeps all cores busy; a single product over pos·width has few rows and columns to share
    out. Half-precision inputs are widened first: a half-precision product would round each score to the inputs'
    precision.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, Tensor] = {}

    def prepare(self, writers: Sequence[Tensor]) -> list[Tensor]:
        """All writers in one tensor, which the next call overwrites."""
        return [self._side_by_side("writers", writers)]

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """−Σ_pos,width writes · grads on every edge, with float32 accumulation.

        writers, readers: tensors [nodes, batch, pos, width] of any floating dtype, all on one device. edges: bool
        [W, R], in their order. Returns [batch, W, R], float32 (float64 for float64 inputs).
        """
        written = self._side_by_side("writers", writers)
        seen = int(edges.any(dim=1).nonzero().max()) + 1 if edges.any() else 0  # later writers are not multiplied
        # A direction stands among the readers: what each writer has along it then costs no pass of its own.
        directions = {
            storage_key(felt.direction): felt.direction[None] for felt in readers if felt.direction is not None
        }
        grads = self._side_by_side("readers", [*(felt.grads for felt in readers), *directions.values()])
        products = _products(written[:seen], grads)
        found = products[..., : edges.shape[1]].sum(1)
        if directions:
            mean_dots = _products(grads[edges.shape[1] :], grads)[..., : edges.shape[1]]
            removed = to_device_async(_removed(readers, [*directions]), mean_dots.device)
            mean_dots = mean_dots.div(grads.shape[-1]) * removed
            found -= torch.einsum("btwd,btdr->bwr", products[..., edges.shape[1] :], mean_dots)
        scores = found.new_zeros(len(found), *edges.shape)
        scores[:, :seen] = found.neg_().mul_(to_device_async(edges[:seen], found.device))
        return scores

    def _side_by_side(self, what: Literal["writers", "readers"], tensors: Sequence[Tensor]) -> Tensor:
        """All nodes in one tensor, float32 (float64 for float64 inputs)."""
        first = tensors[0]
        work = torch.float64 if first.dtype == torch.float64 else torch.float32
        if len(tensors) == 1:
            return first.to(work)
        size = sum(map(len, tensors)), *first.shape[1:]
        room = self._rooms.get(what)
        if room is None or room.numel() < math.prod(size) or (room.dtype, room.device) != (work, first.device):
            room = self._rooms[what] = torch.empty(math.prod(size), dtype=work, device=first.device)
        whole = room[: math.prod(size)].view(size)
        for part, tensor in zip(whole.split([len(tensor) for tensor in tensors]), tensors, strict=True):
            part.copy_(tensor)
        return whole


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Node times node at each position: [L, batch, pos, width] and [R, batch, pos, width] → [batch, pos, L, R]."""
    _, batch, pos, _ = right.shape
    by_position = torch.bmm(left.flatten(1, 2).transpose(0, 1), right.flatten(1, 2).permute(1, 2, 0))
    return by_position.view(batch, pos, len(left), len(right))


def _removed(readers: Sequence[ReaderGrads], directions: Sequence[object]) -> Tensor:
    """Which direction is taken off which readers' gradients: bool [directions, R]."""
    places = [None if felt.direction is None else storage_key(felt.direction) for felt in readers]
    by_felt = torch.tensor([[direction == place for place in places] for direction in directions])
    return by_felt.repeat_interleave(torch.tensor([len(felt.indices) for felt in readers]), dim=1)
