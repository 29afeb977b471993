"""A checkpoint that a server already answers for: the checkpoint's own source, and the server's address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlcircuits.answers.engines.served_address import check_address
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["Served"]


@dataclass(frozen=True)
class Served:
    """A checkpoint with the address of a server that has it loaded, for engine ``openai``."""

    source: Source | Checkpoint
    """The checkpoint. Its own log-probabilities decide whether the server is believed."""
    server: str
    """The address up to ``/v1``, with ``#name`` behind it where the server has several models or adapters."""

    def __post_init__(self) -> None:
        check_address(self.server)

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.source.name

    @property
    def context_length(self) -> int | None:
        """The most tokens that the checkpoint can read, by its config; None if that is not known."""
        return getattr(self.source, "context_length", None)

    def fingerprint(self) -> str:
        """Return the checkpoint's fingerprint: the server changes no cache key, since its model is checked.

        Raises:
            RLCircuitsError: the checkpoint is a loaded one, which has none.
        """
        if isinstance(self.source, Checkpoint):
            raise RLCircuitsError(f"{self.name} is a loaded checkpoint, which has no fingerprint; give its source")
        return self.source.fingerprint()

    def tokenizer(self) -> Any:
        """Return the checkpoint's tokenizer."""
        return self.source.tokenizer if isinstance(self.source, Checkpoint) else self.source.tokenizer()

    def load(self) -> Checkpoint:
        """Return the checkpoint, loaded on this machine."""
        return self.source if isinstance(self.source, Checkpoint) else self.source.load()
