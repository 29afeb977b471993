"""Gradients of the loss with respect to each reader's input to the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice


@dataclass(frozen=True)
class ReaderGrads:
    """The gradients ∂ℓ/∂x_v = g − mean(g·d) d of consecutive readers v, at each position of a batch or batch slice.

    Args:
        indices: The readers, as indices of the graph.
        grads: g, [len(indices), batch, pos, width].
        direction: d, [batch, pos, width], the direction that the norm's VJP removes from all of the gradients. It may
            be cheaper for a backend to remove the direction's part of the scores. None if nothing is to be removed.
    """

    indices: range
    grads: Tensor
    direction: Tensor | None = None

    def whole(self) -> Tensor:
        """Return ∂ℓ/∂x_v, [len(indices), batch, pos, width], in the dtype of ``grads``."""
        if self.direction is None:
            return self.grads
        lengths = mean_dot(self.grads, self.direction)
        return torch.addcmul(self.grads, lengths[..., None].to(self.grads.dtype), self.direction, value=-1)


@dataclass(frozen=True)
class PendingReaderGrads:
    """The gradients of consecutive readers, computed one batch slice at a time.

    The gradients of heads are computed only when they are contracted. Until then only the gradients at the heads'
    features are kept, which are n_heads times smaller.

    Args:
        indices: The readers, as indices of the graph.
        reader_grads: From a batch slice to the readers' gradients in it.
        nbytes: Bytes of the tensors that are kept.
        device: Where these tensors are.
        part: The same gradients in the form in which those of several backwards are added up; None if there is none.
    """

    indices: range
    reader_grads: Callable[[BatchSlice], ReaderGrads]
    nbytes: int
    device: torch.device
    part: SummablePart | None = None


OnReaderGrads = Callable[[PendingReaderGrads], None]
"""Takes the gradients of some readers, while the backward runs."""


def from_tensor(first: int, grads: Tensor) -> PendingReaderGrads:
    """Return the readers from index ``first`` on, whose gradients are ``grads`` [readers, batch, pos, width]."""
    indices = range(first, first + len(grads))
    return PendingReaderGrads(
        indices,
        lambda batch_slice: ReaderGrads(indices, batch_slice.of(grads)),
        grads.nbytes,
        grads.device,
        _TensorPart(grads),
    )


class GradSum(Protocol):
    """A sum of readers' gradients over several backwards."""

    def add(self, part: Any) -> None:
        """Add the gradients of one more backward, of the same kind as the first."""

    def pending(self) -> PendingReaderGrads:
        """Return the sum; nothing is added afterwards."""


class SummablePart(Protocol):
    """The gradients of one backward, as a term of a sum."""

    def start_sum(self, indices: range) -> GradSum:
        """Return a sum that holds only this term."""


@dataclass(frozen=True)
class _TensorPart:
    grads: Tensor

    def start_sum(self, indices: range) -> GradSum:
        return _TensorSum(indices, self.grads)


class _TensorSum:
    def __init__(self, indices: range, grads: Tensor) -> None:
        self._indices, self._dtype = indices, grads.dtype
        self._sum = grads.to(sum_dtype(grads.dtype), copy=True)

    def add(self, part: _TensorPart) -> None:
        self._sum += part.grads

    def pending(self) -> PendingReaderGrads:
        return from_tensor(self._indices.start, self._sum.to(self._dtype))


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which gradients of this dtype are added up."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def mean_dot(nodes: Tensor, direction: Tensor) -> Tensor:
    """Return the mean over the width of node · direction at each position.

    Args:
        nodes: [nodes, batch, pos, width], any floating dtype.
        direction: [batch, pos, width], any floating dtype.

    Returns:
        [nodes, batch, pos] in float32 (float64 for float64 nodes).
    """
    work = sum_dtype(nodes.dtype)
    dots: Tensor = torch.linalg.vecdot(nodes.to(work), direction.to(work))
    return dots / direction.shape[-1]
