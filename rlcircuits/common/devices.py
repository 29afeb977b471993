"""Whether a device can be used, what it can run, its memory for the contraction, and copies that do not wait for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError, one_line

PENDING_GRADS_SHARE = 0.05
"""The share of an accelerator's memory for pending gradients: 4 of 80 GB."""

EXPERT_GRADS_SHARE = 0.1
"""The share of an accelerator's memory for gradients that wait for experts: 8 of 80 GB."""

CONTRACTION_SHARE = 0.1
"""The share of an accelerator's memory for one contraction: 8 of 80 GB, which the backward has freed by then."""

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes that the Triton kernels support."""


def usable_device(device: str | torch.device | None) -> torch.device:
    """Return the device, by default ``cuda`` if there is one. Raises RLCircuitsError if it cannot be used."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise RLCircuitsError(f"device is {str(device)!r}, which cannot be used here: {one_line(error)}") from error
    return place


@cache
def has_triton() -> bool:
    """Return whether triton is installed."""
    return find_spec("triton") is not None


def can_use_triton(tensor: Tensor) -> bool:
    """Return whether the Triton kernels support the device and dtype of ``tensor``."""
    return tensor.device.type == "cuda" and tensor.dtype in KERNEL_DTYPES and has_triton()


def pending_grads_bytes(device: torch.device) -> int:
    """Return how many bytes of reader gradients may wait on ``device`` for their contraction."""
    return 2**28 if device.type != "cuda" else _bytes_of_memory(device, PENDING_GRADS_SHARE)


def expert_grads_bytes(device: torch.device) -> int:
    """Return how many bytes of reader gradients may wait on ``device`` for their contraction with experts.

    Each contraction computes what the experts wrote anew, as another forward of theirs. So these gradients wait longer
    than others.
    """
    return 2**31 if device.type != "cuda" else _bytes_of_memory(device, EXPERT_GRADS_SHARE)


def contraction_bytes(device: torch.device, token: int) -> int:
    """Return how many bytes the tensors of one contraction may take.

    On the CPU, twice the size of its caches: smaller tensors make the products slower, and larger ones no faster. Up to
    twice as much where a slice would otherwise have too few tokens: the products that make heads' outputs and gradients
    have as many rows.

    Args:
        device: Where the tensors are.
        token: The bytes of one token in all of them.
    """
    if device.type == "cuda":
        return _bytes_of_memory(device, CONTRACTION_SHARE)
    return max(2**26, min(2**27, 128 * token))


def readers_per_contraction(device: torch.device) -> int:
    """Return the most readers of one contraction, each of which reads all writers; on CUDA a multiple of a tile.

    On the CPU, the more readers, the faster the product, but the more of it belongs to no edge: a reader has edges to
    the writers before it only. With 28 readers, the product runs at half the rate of the model's own, with 112 at nine
    tenths.
    """
    return 128 if device.type != "cuda" else 1024


def _bytes_of_memory(device: torch.device, share: float) -> int:
    return int(share * torch.cuda.get_device_properties(device).total_memory)


def to_device_async(table: Tensor, device: torch.device) -> Tensor:
    """Copy a small CPU tensor to ``device``, without waiting for the work queued there as ``Tensor.to`` does."""
    if device.type != "cuda" or table.device.type != "cpu":
        return table.to(device)
    return table.pin_memory().to(device, non_blocking=True)


class CopiesOnCPU:
    """Copies of tensors on the CPU; those of an accelerator are made once the work that is queued there is done.

    They are copied into pinned memory, which PyTorch keeps for the next copies. Fresh memory would take longer to get
    than all of its bytes to copy.
    """

    def __init__(self, *tensors: Tensor) -> None:
        """Queue the copies, without waiting for them."""
        self._copies, self._events = [], []
        for tensor in tensors:
            if tensor.device.type != "cuda":
                self._copies.append(tensor.cpu())
                continue
            copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            with torch.cuda.device(tensor.device):
                self._copies.append(copy.copy_(tensor, non_blocking=True))
                self._events.append(torch.cuda.current_stream().record_event())

    def wait(self) -> list[Tensor]:
        """Return the copies, once they are made."""
        for event in self._events:
            event.synchronize()
        return self._copies


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which Triton launches kernels on ``device``; it ignores where the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
