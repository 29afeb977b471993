"""Look at a model's weights where they are: whether they are finite, and whether they are those of another time."""

from __future__ import annotations

from typing import Any

import torch

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash

__all__ = ["check_finite", "weights_hash"]

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of a number, the integers that have its bits."""


def weights_hash(model: Any) -> str:
    """Return a hash of a model's weights: of each tensor's name, shape, dtype and the sum of its bits.

    The sum is of integers, so that it does not depend on the device or the number of threads. It is made where the
    tensor is, and so costs one reading of the weights.
    """
    return content_hash(
        [
            [name, list(tensor.shape), str(tensor.dtype), _bit_sum(tensor)]
            for name, tensor in sorted(model.state_dict().items())
            if isinstance(tensor, torch.Tensor)
        ]
    )


def check_finite(model: Any) -> None:
    """Raise RLCircuitsError for a weight that is not finite, from which no answer can be drawn."""
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all()):
            raise RLCircuitsError(f"the weights of {name} are not all finite: the training has diverged")


def _bit_sum(tensor: torch.Tensor) -> int:
    bits = tensor.detach().contiguous().view(_BITS[tensor.element_size()])
    return int(bits.sum(dtype=torch.int64))
