"""Index the output features of a layer without a copy where that is possible."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcircuits.common.devices import to_device_async


def as_index(features: Tensor, device: torch.device) -> slice | Tensor:
    """Return ``features``, flattened, as an index: a slice if they are consecutive, since slices do not copy.

    Args:
        features: int64 of any shape, on the CPU.
        device: Where the index is used.
    """
    flat = features.reshape(-1)
    first, count = int(flat[0]), len(flat)
    if torch.equal(flat, torch.arange(first, first + count)):
        return slice(first, first + count)
    return to_device_async(flat, device)
