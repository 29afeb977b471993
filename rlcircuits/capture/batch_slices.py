"""Parts of a batch, so that what is made of a whole batch need never be there as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BatchSlice:
    """Consecutive sequences of a batch, and consecutive positions of them."""

    sequences: slice
    positions: slice

    def of(self, tensor: Tensor) -> Tensor:
        """The window's part of a tensor [..., batch, pos, features], a view."""
        return tensor[..., self.sequences, self.positions, :]


WHOLE_BATCH = BatchSlice(slice(None), slice(None))
"""The whole batch."""


def batch_slices(batch: int, positions: int, tokens: int) -> Iterator[BatchSlice]:
    """Windows of at most ``tokens`` tokens that make up [batch, positions]: whole sequences where they fit."""
    together = max(1, tokens // positions)
    length = min(positions, max(1, tokens))
    for first in range(0, batch, together):
        for start in range(0, positions, length):
            yield BatchSlice(slice(first, min(first + together, batch)), slice(start, min(start + length, positions)))
