"""What the contraction asks of a device: kernels, memory for tensors of its own, small tables without waiting."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

# Of an accelerator's memory: 4 and 8 GB of 80. By then the activations' memory is free again.
PENDING_GRADS_SHARE, CONTRACTION_SHARE = 0.05, 0.1
# What the Triton kernels compute with.
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def has_triton() -> bool:
    """Whether triton is installed."""
    return find_spec("triton") is not None


def can_use_triton(tensor: Tensor) -> bool:
    """Whether the Triton kernels take ``tensor`` as it is."""
    return tensor.device.type == "cuda" and tensor.dtype in KERNEL_DTYPES and has_triton()


def pending_grads_bytes(device: torch.device) -> int:
    """Bytes that readers' gradients may take on ``device`` while they are held back."""
    return 2**28 if device.type != "cuda" else _bytes_of_memory(device, PENDING_GRADS_SHARE)


def contraction_bytes(device: torch.device) -> int:
    """Bytes that the tensors of one contraction may take: on the CPU, what its caches hold about."""
    return 2**25 if device.type != "cuda" else _bytes_of_memory(device, CONTRACTION_SHARE)


def readers_per_contraction(device: torch.device) -> int:
    """Most readers of one contraction, each of which reads the writers again; on CUDA a multiple of a tile's."""
    return 32 if device.type != "cuda" else 1024


def _bytes_of_memory(device: torch.device, share: float) -> int:
    return int(share * torch.cuda.get_device_properties(device).total_memory)


def to_device_async(table: Tensor, device: torch.device) -> Tensor:
    """A small CPU tensor on ``device``. The usual copy to an accelerator would wait for all work queued there."""
    if device.type != "cuda" or table.device.type != "cpu":
        return table.to(device)
    return table.pin_memory().to(device, non_blocking=True)


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Makes ``device`` the one that kernels are launched on, which need not be the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
