"""Load a small checkpoint once for a run that needs it many times.

A pair loads before to compare weights, to answer, to be scored and for each noise. Reading the files, merging an
adapter and verifying the residual stream take longer than copying a small model. So on the CPU one untouched copy of it
is kept while the run lasts, and each later load is a copy of that one.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.devices import usable_device

__all__ = ["LARGEST", "load_or_copy", "reuse"]

LARGEST = 2**30
"""Bytes of weights of the largest model of which a copy is kept."""

_ALIGNMENT = 64
"""Bytes of a line of the CPU's cache, and of the widest number that its kernels read at once."""


class Identified(Protocol):
    """What tells whether two sources load the same weights."""

    def fingerprint(self) -> str:
        """Return a hash of everything that is loaded."""
        ...


class _Reused(threading.local):
    """The checkpoint that a thread reuses, by its fingerprint, and the copy once it has been loaded."""

    fingerprint: str | None = None
    kept: Checkpoint | None = None


_reused = _Reused()


@contextmanager
def reuse(source: Identified) -> Iterator[None]:
    """Keep a copy of a checkpoint from its first load until the end of the block, if it is small and on the CPU.

    A block within this one keeps the copy if it reuses the same checkpoint. Another thread has its own copy, since it
    may be measuring another pair.
    """
    outer = _reused.fingerprint, _reused.kept
    fingerprint = source.fingerprint()
    if fingerprint != _reused.fingerprint:
        _reused.fingerprint, _reused.kept = fingerprint, None
    try:
        yield
    finally:
        _reused.fingerprint, _reused.kept = outer


def load_or_copy(
    source: Identified, load: Callable[[], Checkpoint], *, name: str, device: str | None, split: bool
) -> Checkpoint:
    """Return a checkpoint that nothing else refers to: loaded, or copied from the one that is kept.

    Args:
        source: the checkpoint. If its files have changed, it is another one.
        load: loads it.
        name: its name.
        device: where it is wanted; None for the best available device.
        split: whether it is wanted on several devices.
    """
    if _reused.fingerprint is None or split or source.fingerprint() != _reused.fingerprint:
        return load()
    if _reused.kept is not None and usable_device(device).type == "cpu":
        return _copied(_reused.kept, name)
    checkpoint = load()
    if _reused.kept is None and _can_be_kept(checkpoint):
        _reused.kept = _copied(checkpoint, name)
    return checkpoint


def _can_be_kept(checkpoint: Checkpoint) -> bool:
    """Return whether a model is small, on the CPU, and of transformers' own code, which can be copied."""
    own_code = type(checkpoint.model).__module__.startswith("transformers.models.")
    on_cpu = all(tensor.device.type == "cpu" for tensor in checkpoint.tensors)
    return own_code and on_cpu and checkpoint.nbytes <= LARGEST


def _copied(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Return a copy that shares the tokenizer, which nobody changes, and nothing else, and computes the same bits."""
    tokenizer = checkpoint._tokenizer
    copied = copy.deepcopy(checkpoint, {id(tokenizer): tokenizer})
    copied.name = name
    for tensor, original in zip(copied.tensors, checkpoint.tensors, strict=True):
        _move_like(tensor, original)
    return copied


def _move_like(tensor: torch.Tensor, original: torch.Tensor) -> None:
    """Move a copied tensor to an address that lies between two lines of the cache where the original's does.

    A tensor that was read from a file lies wherever it does in the file, and a new one at the beginning of a line. The
    kernels for the product of a single row with a matrix take another order of summation where it does not.
    """
    place, size = original.data_ptr() % _ALIGNMENT, tensor.element_size()
    if tensor.data_ptr() % _ALIGNMENT == place or place % size or not tensor.is_contiguous():
        return
    room = torch.empty(tensor.numel() + _ALIGNMENT // size, dtype=tensor.dtype)
    start = (place - room.data_ptr()) % _ALIGNMENT // size
    moved = room[start : start + tensor.numel()].view(tensor.shape)
    tensor.data = moved.copy_(tensor.detach())
