"""What readers felt: the loss's gradient at the stream as each of them reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.windows import Window


@dataclass(frozen=True)
class Felt:
    """What consecutive readers felt: ∂ℓ/∂x_v = grads − Σ_d (mean grads·d) d at each position, d in ``removed``.

    grads: [len(indices), batch, pos, width]. removed: directions, [batch, pos, width] each: the part of a norm's
    Jacobian that is cheaper to take off the scores.
    """

    indices: range
    grads: Tensor
    removed: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Readers:
    """Consecutive readers of the graph, with a way to make what they felt.

    felt(window) is of the window. Heads' gradients are made only when they are contracted: kept are those at their
    features, n_heads times smaller. nbytes: what is kept meanwhile. device: where. norm: the same for readers that
    have their directions in common, None for those without.
    """

    indices: range
    felt: Callable[[Window], Felt]
    nbytes: int
    device: torch.device
    norm: int | None = None


def at_hand(first: int, grads: Tensor) -> Readers:
    """Readers whose gradients [readers, batch, pos, width] are there as a whole."""
    indices = range(first, first + len(grads))
    return Readers(indices, lambda window: Felt(indices, window.of(grads)), grads.nbytes, grads.device)


def place_of(tensor: Tensor) -> tuple[object, ...]:
    """The same for views of the same numbers: a window's directions are made anew for each of their readers."""
    return tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def along(nodes: Tensor, direction: Tensor) -> Tensor:
    """Mean of node · direction at each position: [nodes, batch, pos, width], [batch, pos, width] → [nodes, batch, pos].

    In the direction's dtype.
    """
    return torch.einsum("nbtd,btd->nbt", nodes.to(direction.dtype), direction) / direction.shape[-1]


Deliver = Callable[[Readers], None]
