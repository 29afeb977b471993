"""Check that a checkpoint's files are still those that its fingerprint was taken of.

Results are kept under the fingerprint. A checkpoint that is overwritten while it is measured would leave those of other
weights there, or of a mixture: on a CPU, loaded weights may be pages of the file itself.
"""

from __future__ import annotations

from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["CheckpointChangedError", "check_unchanged"]


class CheckpointChangedError(RLCircuitsError):
    """Raised for a checkpoint whose files changed while it was measured."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: its files changed while it was measured, so what was computed is of no one checkpoint and is not "
            "kept; measure it again once nothing writes to it, or measure a copy"
        )


def check_unchanged(source: Source, fingerprint: str) -> None:
    """Check that a source has this fingerprint. No file is read again unless it changed.

    Raises:
        CheckpointChangedError: it has another one, or some of its files are gone or half written.
    """
    try:
        found = source.fingerprint()
    except RLCircuitsError:
        found = None
    if found != fingerprint:
        raise CheckpointChangedError(source.name)
