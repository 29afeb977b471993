"""Readers' gradients added up over several backwards, so that one contraction serves them all.

A score is linear in the gradients. So the mean over the points of a path (integrated gradients) needs one contraction
of the mean gradients, not one for each point. What is added up depends on how a reader's gradients are held
(:class:`~rlcircuits.capture.reader_grads.PendingReaderGrads`): the gradients themselves, or those at the features of
heads. Sums are in float32 (float64 for float64 gradients), and rounded once at the end.
"""

from __future__ import annotations

from rlcircuits.capture.reader_grads import GradSum, OnReaderGrads, PendingReaderGrads


class SummedGrads:
    """Takes the gradients of several backwards, and delivers each reader's sum."""

    def __init__(self) -> None:
        self._sums: dict[range, GradSum] = {}

    def add(self, readers: PendingReaderGrads) -> None:
        """Add some readers' gradients of one backward."""
        assert readers.part is not None, "gradients of this kind cannot be added up"
        if (found := self._sums.get(readers.indices)) is None:
            self._sums[readers.indices] = readers.part.start_sum(readers.indices)
        else:
            found.add(readers.part)

    def deliver(self, on_reader_grads: OnReaderGrads) -> None:
        """Deliver the sums, in the order in which a backward delivers gradients, and forget them."""
        while self._sums:
            indices = next(iter(self._sums))
            on_reader_grads(self._sums.pop(indices).pending())
