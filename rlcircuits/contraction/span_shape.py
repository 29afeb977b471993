"""How a batch is cut so that each span of each sequence gets a score matrix of its own.

A score is a sum over positions. Slices that lie within one span each, and whose scores are added to that span's matrix,
cost the same products as slices of whole sequences. Neighbouring sequences whose span has the same positions share a
slice, so that answers of one form are contracted together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rlcircuits.capture.batch_slices import BatchSlice, batch_slices
from rlcircuits.contraction.grouped import BatchShape

__all__ = ["Run", "SpanShape"]


@dataclass(frozen=True, order=True)
class Run:
    """The positions from ``start`` to before ``stop`` of a sequence of the batch."""

    start: int
    stop: int
    sequence: int


@dataclass(frozen=True)
class _SpanSlice(BatchSlice):
    """A slice within a run of each of its sequences; ``first`` is the place of the first run."""

    first: int = 0

    def overlap(self, other: BatchSlice) -> _SpanSlice | None:
        """Return what both have in common, of which the first run is another where sequences are left out."""
        found = super().overlap(other)
        if found is None:
            return None
        return replace(found, first=self.first + found.sequences.start - self.sequences.start)


@dataclass(frozen=True)
class SpanShape(BatchShape):
    """The size of a batch's activations, and the runs of positions that are scored apart.

    Attributes:
        runs: Runs that are not empty, in the order of their score matrices: sorted by positions, then by sequence.
    """

    runs: Sequence[Run] = field(default_factory=tuple)

    @property
    def rows(self) -> int:
        """The number of score matrices: one a run."""
        return len(self.runs)

    def batch_slices(self, nodes: int, nbytes: int) -> Iterator[BatchSlice]:
        """Yield slices, each within one run of its sequences, in which ``nodes`` tensors take at most ``nbytes``."""
        tokens = nbytes // (nodes * self.node_bytes)
        for first, last in self._together():
            run = self.runs[first]
            for piece in batch_slices(last - first, run.stop - run.start, tokens):
                sequences, positions = piece.sequences, piece.positions
                yield _SpanSlice(
                    slice(run.sequence + sequences.start, run.sequence + sequences.stop),
                    slice(run.start + positions.start, run.start + positions.stop),
                    first + sequences.start,
                )

    def rows_of(self, batch_slice: BatchSlice) -> slice:
        """Return the matrices of the runs in a slice."""
        assert isinstance(batch_slice, _SpanSlice)
        count = batch_slice.sequences.stop - batch_slice.sequences.start
        return slice(batch_slice.first, batch_slice.first + count)

    def _together(self) -> Iterator[tuple[int, int]]:
        """Yield the bounds of consecutive runs of the same positions in consecutive sequences."""
        first = 0
        for place in range(1, len(self.runs) + 1):
            if place < len(self.runs):
                before, run = self.runs[place - 1], self.runs[place]
                if run == Run(before.start, before.stop, before.sequence + 1):
                    continue
            yield first, place
            first = place
