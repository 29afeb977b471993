"""What readers felt: the loss's gradient at the stream as each of them reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice


@dataclass(frozen=True)
class ReaderGrads:
    """What consecutive readers felt: ∂ℓ/∂x_v = grads − (mean grads·d) d at each position with d = ``direction``.

    grads: [len(indices), batch, pos, width]. direction: [batch, pos, width], the part of a norm's Jacobian that may
    be cheaper to take off the scores; None where nothing is left to take off.
    """

    indices: range
    grads: Tensor
    direction: Tensor | None = None

    def whole(self) -> Tensor:
        """∂ℓ/∂x_v, [len(indices), batch, pos, width]."""
        if self.direction is None:
            return self.grads
        lengths = mean_dot(self.grads, self.direction)
        return torch.addcmul(self.grads, lengths[..., None].to(self.grads.dtype), self.direction, value=-1)


@dataclass(frozen=True)
class PendingReaderGrads:
    """Consecutive readers of the graph, with a way to make what they felt.

    felt(window) is of the window. Heads' gradients are made only when they are contracted: kept are those at their
    features, n_heads times smaller. nbytes: what is kept meanwhile. device: where.
    """

    indices: range
    felt: Callable[[BatchSlice], ReaderGrads]
    nbytes: int
    device: torch.device


def from_tensor(first: int, grads: Tensor) -> PendingReaderGrads:
    """Readers whose gradients [readers, batch, pos, width] are there as a whole."""
    indices = range(first, first + len(grads))
    return PendingReaderGrads(
        indices, lambda batch_slice: ReaderGrads(indices, batch_slice.of(grads)), grads.nbytes, grads.device
    )


def storage_key(tensor: Tensor) -> tuple[object, ...]:
    """The same for views of the same numbers: a window's direction is made anew for each of its readers."""
    return tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def mean_dot(nodes: Tensor, direction: Tensor) -> Tensor:
    """Mean of node · direction at each position: [nodes, batch, pos, width], [batch, pos, width] → [nodes, batch, pos].

    In float32 (float64 for float64 nodes).
    """
    work = torch.float64 if nodes.dtype == torch.float64 else torch.float32
    return torch.einsum("nbtd,btd->nbt", nodes.to(work), direction.to(work)) / direction.shape[-1]


OnReaderGrads = Callable[[PendingReaderGrads], None]
