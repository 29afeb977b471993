"""Slices of a batch, so that large intermediate tensors are computed for one slice at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class BatchSlice:
    """Consecutive sequences of a batch, and consecutive positions in them."""

    sequences: slice
    positions: slice

    def of(self, tensor: Tensor) -> Tensor:
        """Return the slice of a tensor [..., batch, pos, features], as a view."""
        return tensor[..., self.sequences, self.positions, :]

    def overlap(self, other: BatchSlice) -> Self | None:
        """Return what this slice and another have in common, as a slice of the batch; None if that is nothing."""
        sequences, positions = _overlap(self.sequences, other.sequences), _overlap(self.positions, other.positions)
        if sequences.start >= sequences.stop or positions.start >= positions.stop:
            return None
        return replace(self, sequences=sequences, positions=positions)

    def relative_to(self, outer: BatchSlice) -> BatchSlice:
        """Return where this slice lies in what ``outer``, a slice that holds it, cuts out."""
        return BatchSlice(_relative(self.sequences, outer.sequences), _relative(self.positions, outer.positions))


def _overlap(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _relative(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)


WHOLE_BATCH = BatchSlice(slice(None), slice(None))
"""The slice that is the whole batch."""


def batch_slices(batch: int, positions: int, tokens: int) -> Iterator[BatchSlice]:
    """Yield slices that together make up [batch, positions].

    Args:
        batch: Number of sequences.
        positions: Number of positions of each sequence.
        tokens: Most tokens in a slice, at least one. If a sequence has no more, slices consist of whole sequences.
    """
    together = max(1, tokens // positions)
    length = min(positions, max(1, tokens))
    for first in range(0, batch, together):
        for start in range(0, positions, length):
            yield BatchSlice(slice(first, min(first + together, batch)), slice(start, min(start + length, positions)))
