"""Load a model at most once and free it at the end, and time the work with it."""

from __future__ import annotations

import time
from typing import Any

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source, processor_of
from rlcircuits.common.stage_times import stage
from rlcircuits.models.images import ImageProcessor

__all__ = ["LoadedOnce", "Stopwatch"]


class LoadedOnce:
    """A source that loads at its first use and is freed on leaving the context, so that several stages share a load."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.load_seconds = 0.0
        self._checkpoint: Checkpoint | None = None

    @property
    def loaded(self) -> bool:
        """Return whether the model was loaded."""
        return self._checkpoint is not None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.source.name

    def fingerprint(self) -> str:
        """Return the source's fingerprint."""
        return self.source.fingerprint()

    def tokenizer(self) -> Any:
        """Return the source's tokenizer."""
        return self.source.tokenizer()

    def processor(self) -> ImageProcessor:
        """Return the processor of images of the source."""
        return processor_of(self.source)

    def load(self) -> Checkpoint:
        """Return the checkpoint, and load it if this is its first use."""
        if self._checkpoint is None:
            start = time.perf_counter()
            with stage("load"):
                self._checkpoint = self.source.load()
            self.load_seconds = time.perf_counter() - start
        return self._checkpoint

    def __enter__(self) -> LoadedOnce:
        return self

    def __exit__(self, *_: object) -> None:
        if self._checkpoint is None:
            return
        # A model's modules refer to one another, so only the garbage collector would free it, some time later.
        # Replacing the weights by empty tensors frees their memory at once.
        for tensor in (*self._checkpoint.model.parameters(), *self._checkpoint.model.buffers()):
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        self._checkpoint = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Stopwatch:
    """Measure the time since it was made, without the time that loading the model took."""

    def __init__(self, source: LoadedOnce) -> None:
        self.source = source
        self._start = time.perf_counter() - source.load_seconds

    @property
    def seconds(self) -> float:
        """Return the seconds since the stopwatch was made, without those spent on loading."""
        return time.perf_counter() - self._start - self.source.load_seconds
