"""Gradients of the loss with respect to each reader's input to the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    """

    indices: range
    reader_grads: Callable[[BatchSlice], ReaderGrads]
    nbytes: int
    device: torch.device


OnReaderGrads = Callable[[PendingReaderGrads], None]
"""Takes the gradients of some readers, while the backward runs."""


def from_tensor(first: int, grads: Tensor) -> PendingReaderGrads:
    """Return the readers from index ``first`` on, whose gradients are ``grads`` [readers, batch, pos, width]."""
    indices = range(first, first + len(grads))
    return PendingReaderGrads(
        indices, lambda batch_slice: ReaderGrads(indices, batch_slice.of(grads)), grads.nbytes, grads.device
    )


def mean_dot(nodes: Tensor, direction: Tensor) -> Tensor:
    """Return the mean over the width of node · direction at each position.

    Args:
        nodes: [nodes, batch, pos, width], any floating dtype.
        direction: [batch, pos, width], any floating dtype.

    Returns:
        [nodes, batch, pos] in float32 (float64 for float64 nodes).
    """
    work = torch.float64 if nodes.dtype == torch.float64 else torch.float32
    dots: Tensor = torch.linalg.vecdot(nodes.to(work), direction.to(work))
    return dots / direction.shape[-1]
