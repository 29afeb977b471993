"""The contraction as matrix products, whose inner dimension is positions × width.

A score is one inner product over all positions and features of a sequence. With O and G the stacked writer outputs and
reader gradients of a sequence, the scores are

    −O Gᵀ    [W, pos·width] · [pos·width, R]

On a CPU each sequence is one product by oneDNN, if it has rows and columns enough for all cores
(:mod:`rlcircuits.common.linear_product`). Otherwise each product takes a run of positions, and the products of all runs
are added: one product for each position would take as many operations, but each would write [W, R] numbers that have to
be read again for their sum, and one for the whole sequence has too few rows and columns to share out among many cores.

A reader's gradient comes as G, with the direction d that a norm's Jacobian still has to take off it. With n for the
width of the residual stream, at each position

    g = G − (G·d / n) d

It is taken off while the gradients are stacked, which reads them anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rlcircuits.capture.reader_grads import ReaderGrads, mean_dot
from rlcircuits.common.devices import to_device_async
from rlcircuits.common.linear_product import can_use_onednn, linear_product
from rlcircuits.contraction.routed import contract_routed

_INNER = 8192
"""About how many numbers of each node a run has: beside that many, to add up the products costs nothing."""

_MOST_INNER = 2**17
"""Most numbers of each node in one product, since the error of a sum in float32 grows with their number."""


class Matmul:
    """The backend ``matmul``, with a buffer for each factor of its products, which it reuses.

    Half-precision inputs are widened first, because a half-precision product would round each score to the inputs'
    precision.
    """

    def __init__(self) -> None:
        self._writers = _Buffer()
        self._readers = _Buffer()

    def prepare(self, writers: Sequence[Tensor]) -> list[Tensor]:
        """Return all writers in one tensor, which the next call overwrites."""
        return [self._stacked_writers(writers)]

    def contract(self, writers: Sequence[Tensor], readers: Sequence[ReaderGrads], edges: Tensor) -> Tensor:
        """Return −Σ_pos,width outputs · gradients on every edge, accumulated in float32.

        Args:
            writers: tensors [nodes, batch, pos, width] of any floating dtype.
            readers: gradients [nodes, batch, pos, width] of any floating dtype, on the writers' device.
            edges: bool [W, R] on the CPU; rows and columns in the order of ``writers`` and ``readers``.

        Returns:
            [batch, W, R], float32 (float64 for float64 inputs), 0 where there is no edge.
        """
        outputs, grads = self._stacked_writers(writers), self._stacked_readers(readers)
        scores = grads.new_zeros(grads.shape[1], *edges.shape)
        for rows, columns in _bands(edges):
            scores[:, rows, columns] = _products(outputs[rows], grads[columns])
        return scores.neg_().mul_(to_device_async(edges, scores.device))

    def contract_routed(self, outputs: Tensor, chosen: Tensor, experts: int, readers: Sequence[ReaderGrads]) -> Tensor:
        """Return the scores of experts, [batch, experts, R]; see :mod:`rlcircuits.contraction.routed`."""
        return contract_routed(outputs, chosen, experts, readers)

    def _stacked_writers(self, writers: Sequence[Tensor]) -> Tensor:
        """Return all writers in one tensor, float32 (float64 for float64 inputs)."""
        if len(writers) == 1:
            return writers[0].to(_wide(writers[0].dtype))
        parts = self._writers.parts(writers)
        for part, writer in zip(parts, writers, strict=True):
            part.copy_(writer)
        return self._writers.whole(parts)

    def _stacked_readers(self, readers: Sequence[ReaderGrads]) -> Tensor:
        """Return all gradients, their directions taken off, in one tensor, float32 (float64 for float64 inputs)."""
        parts = self._readers.parts([reader.grads for reader in readers])
        for part, reader in zip(parts, readers, strict=True):
            if reader.direction is None:
                part.copy_(reader.grads)
            else:
                grads, direction = reader.grads.to(part.dtype), reader.direction.to(part.dtype)
                torch.addcmul(grads, mean_dot(grads, direction)[..., None], direction, value=-1, out=part)
        return self._readers.whole(parts)


class _Buffer:
    """Memory for nodes that stand one after another in one tensor; it grows and is used again.

    Sequence by sequence, so that each is a matrix whose memory is contiguous.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def parts(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return a tensor of the size of each of ``tensors``, [nodes, batch, pos, width], one after another."""
        first = tensors[0]
        dtype, counts = _wide(first.dtype), [len(tensor) for tensor in tensors]
        size = sum(counts) * first[0].numel()
        memory = self._memory
        if memory is None or memory.numel() < size or (memory.dtype, memory.device) != (dtype, first.device):
            self._memory = torch.empty(size, dtype=dtype, device=first.device)
        parts: tuple[Tensor, ...] = self._nodes(sum(counts), first.shape[1:]).split(counts)
        return parts

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the tensor that ``parts`` are parts of."""
        return self._nodes(sum(len(part) for part in parts), parts[0].shape[1:])

    def _nodes(self, count: int, shape: Sequence[int]) -> Tensor:
        """Return the memory as [count, batch, pos, width], with all nodes of one sequence side by side."""
        assert self._memory is not None
        batch, pos, width = shape
        return self._memory[: count * math.prod(shape)].view(batch, count, pos, width).transpose(0, 1)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _bands(edges: Tensor) -> list[tuple[slice, slice]]:
    """Return two blocks of rows and columns that hold all edges [W, R].

    A reader has edges to the writers before it. The writers before half of the readers are one block, with all
    readers. The writers after them are the other, with the readers that follow. One block of all would be larger.
    """
    rows = torch.arange(1, len(edges) + 1)[:, None]
    heights = (edges * rows).amax(0)  # rows down to each column's last edge
    lower, last = int(heights.median()), int(heights.amax())
    later = (heights > lower).nonzero()
    bands = [(slice(0, lower), slice(0, len(heights)))]
    if len(later):
        bands.append((slice(lower, last), slice(int(later[0]), int(later[-1]) + 1)))
    return bands


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Return Σ_pos,width node · node: [L, batch, pos, width] and [R, batch, pos, width] → [batch, L, R]."""
    _, batch, pos, width = right.shape
    if pos * width <= _MOST_INNER and can_use_onednn(right, len(left), len(right), pos * width):
        sequences = zip(left.flatten(2).unbind(1), right.flatten(2).unbind(1), strict=True)
        return torch.stack([linear_product(outputs, grads) for outputs, grads in sequences])
    run = max(1, _INNER // width)
    if pos <= run:
        return _batched_products(left.flatten(2).transpose(0, 1), right.flatten(2).transpose(0, 1))
    # Runs of several sequences are not evenly spaced in memory, unless a sequence is a whole number of runs.
    return torch.stack([_sum_of_runs(left[:, i], right[:, i], run) for i in range(batch)])


def _sum_of_runs(left: Tensor, right: Tensor, run: int) -> Tensor:
    """Return Σ_pos,width node · node of one sequence: [L, pos, width] and [R, pos, width] → [L, R]."""
    whole = left.shape[1] // run * run
    runs = [nodes[:, :whole].unflatten(1, (-1, run)).flatten(2).transpose(0, 1) for nodes in (left, right)]
    total = _batched_products(*runs).sum(0)
    return total.addmm_(left[:, whole:].flatten(1), right[:, whole:].flatten(1).T)


def _batched_products(left: Tensor, right: Tensor) -> Tensor:
    """Return node · node of each batch: [batch, L, inner] and [batch, R, inner] → [batch, L, R]."""
    return torch.bmm(left, right.transpose(1, 2))
