"""The contraction as matrix products: at each position W×width times width×R, summed over positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from rlcircuits.contraction.devices import sent
from rlcircuits.readers import Felt, along
from rlcircuits.writers import Writers

# Fewer nodes than this are laid side by side for one matrix product; more come that way already.
SIDE_BY_SIDE = 8

_Nodes = TypeVar("_Nodes", Writers, Felt)


def contract_matmul(writers: Sequence[Writers], readers: Sequence[Felt], edges: Tensor) -> Tensor:
    """−Σ_pos,width writes · grads on every edge, with float32 accumulation.

    writers, readers: tensors [nodes, batch, pos, width] of any floating dtype. edges: bool [W, R], in their order.
    Returns [batch, W, R], float32 (float64 for float64 inputs).
    """
    beside = [(group, _joined([felt.grads for felt in group.nodes])) for group in _side_by_side(readers)]
    first = beside[0][1]
    scores = torch.zeros(first.shape[1], *edges.shape, dtype=_work(first), device=first.device)
    for writer_group in _side_by_side(writers):
        rows = torch.tensor(writer_group.places)[:, None]
        writes = _joined([w.tensors().to(first.device) for w in writer_group.nodes])
        lengths: dict[int, Tensor] = {}  # by direction: q, k and v of a block have theirs in common
        for reader_group, grads in beside:
            columns = torch.tensor(reader_group.places)
            if edges[rows, columns].any():
                found = _products(writes, grads)
                _take_off(found, writes, reader_group.nodes, lengths)
                scores[:, sent(rows, first.device), sent(columns, first.device)] = found
    return scores.mul_(sent(edges, scores.device))


def _products(writes: Tensor, grads: Tensor) -> Tensor:
    """−Σ writes · grads: [W, batch, pos, width] and [R, batch, pos, width] → [batch, W, R].

    One product a position keeps all cores busy; a single product over pos·width has few rows and columns
    to share out. Half-precision inputs are widened first: a half-precision product would round each
    score to the inputs' precision.
    """
    work = _work(writes)
    _, batch, pos, _ = writes.shape
    left = writes.to(work).flatten(1, 2).transpose(0, 1)
    right = grads.to(work).flatten(1, 2).permute(1, 2, 0)
    by_position = torch.bmm(left, right)
    return by_position.view(batch, pos, *by_position.shape[1:]).sum(1).neg_()


def _take_off(scores: Tensor, writes: Tensor, felts: Sequence[Felt], lengths: dict[int, Tensor]) -> None:
    """Complete scores [batch, W, R] by what the readers felt less along their norms' directions."""
    start = 0
    for felt in felts:
        stop = start + len(felt.indices)
        for coefficients, direction in felt.less:
            if id(direction) not in lengths:
                lengths[id(direction)] = along(writes, direction)
            scores[:, :, start:stop] += torch.einsum("wbt,rbt->bwr", lengths[id(direction)], coefficients)
        start = stop


def _work(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class _Group(Generic[_Nodes]):
    """Nodes for one product, and the places of their rows or columns in the result."""

    def __init__(self) -> None:
        self.nodes: list[_Nodes] = []
        self.places: list[int] = []

    def add(self, node: _Nodes, first: int) -> None:
        self.nodes.append(node)
        self.places.extend(range(first, first + len(node.indices)))


def _side_by_side(nodes: Sequence[_Nodes]) -> list[_Group[_Nodes]]:
    """Nodes in groups of about SIDE_BY_SIDE; those that are so many by themselves stay alone, uncopied."""
    groups: list[_Group[_Nodes]] = []
    few: _Group[_Nodes] = _Group()
    first = 0
    for node in nodes:
        alone = len(node.indices) >= SIDE_BY_SIDE
        group: _Group[_Nodes] = _Group() if alone else few
        group.add(node, first)
        first += len(node.indices)
        if len(group.places) >= SIDE_BY_SIDE:
            groups.append(group)
            few = few if alone else _Group()
    if few.nodes:
        groups.append(few)
    return groups


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
