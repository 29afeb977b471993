"""A model that is loaded once, when first asked for, and gone at the end, and how long it is worked with."""

from __future__ import annotations

import time
from typing import Any

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source

__all__ = ["LoadedOnce", "Stopwatch"]


class LoadedOnce:
    """A source that is loaded once, when first asked for, and freed at the end: answers and scores need one load."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.load_seconds = 0.0
        self._checkpoint: Checkpoint | None = None

    @property
    def loaded(self) -> bool:
        """Whether it was asked for."""
        return self._checkpoint is not None

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    def fingerprint(self) -> str:
        """Return the source's fingerprint."""
        return self.source.fingerprint()

    def tokenizer(self) -> Any:
        """Return the source's tokenizer."""
        return self.source.tokenizer()

    def load(self) -> Checkpoint:
        """Return the checkpoint."""
        if self._checkpoint is None:
            start = time.perf_counter()
            self._checkpoint = self.source.load()
            self.load_seconds = time.perf_counter() - start
        return self._checkpoint

    def __enter__(self) -> LoadedOnce:
        return self

    def __exit__(self, *_: object) -> None:
        if self._checkpoint is None:
            return
        # A model's modules refer to one another, so that only the garbage collector, which takes its time, would
        # free it. The weights are let go at once.
        for tensor in (*self._checkpoint.model.parameters(), *self._checkpoint.model.buffers()):
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        self._checkpoint = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Stopwatch:
    """Time since it was made, without loading the model."""

    def __init__(self, source: LoadedOnce) -> None:
        self.source = source
        self._start = time.perf_counter() - source.load_seconds

    @property
    def seconds(self) -> float:
        """So many have passed."""
        return time.perf_counter() - self._start - self.source.load_seconds
