"""Load a model at most once and free it at the end, and time the work with it.

A process that does many stages of work on few models, as a worker does, keeps the last one (:func:`keep_last_model`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source, processor_of
from rlcircuits.checkpoints.unchanged import check_unchanged
from rlcircuits.common.stage_times import stage
from rlcircuits.models.images import ImageProcessor

__all__ = ["LoadedOnce", "Stopwatch", "free_kept_model", "keep_last_model"]


@dataclass
class _Kept:
    """The model that this process used last, and what it was loaded from."""

    wanted: bool = False
    """Whether a model is kept at all."""
    source: Source | None = None
    fingerprint: str = ""
    checkpoint: Checkpoint | None = None

    def take(self, source: Source) -> Checkpoint | None:
        """Return the kept model if it is this source's; free any other, since a device may have room for one only."""
        if self.checkpoint is None:
            return None
        if self.source != source or self.fingerprint != source.fingerprint():
            self.free()
            return None
        found, self.checkpoint = self.checkpoint, None
        return found

    def put(self, source: Source, checkpoint: Checkpoint, fingerprint: str) -> None:
        """Keep a model in place of the former one."""
        self.free()
        self.source, self.checkpoint, self.fingerprint = source, checkpoint, fingerprint

    def free(self) -> None:
        """Free the kept model, if there is one."""
        if self.checkpoint is not None:
            _free(self.checkpoint)
        self.source = self.checkpoint = None


_kept = _Kept()


def keep_last_model(wanted: bool = True) -> None:
    """Keep one model in this process beyond its last use, for stages on the same model that follow.

    It is freed before another model is loaded, so that memory holds as many models at a time as without this.

    Args:
        wanted: False to keep none, as by default; the kept one is freed.
    """
    _kept.wanted = wanted
    if not wanted:
        _kept.free()


def free_kept_model() -> None:
    """Free the kept model, if there is one, as before work that needs the device's memory for itself."""
    _kept.free()


class LoadedOnce:
    """A source that loads at its first use and is freed on leaving the context, so that several stages share a load."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.load_seconds = 0.0
        self._checkpoint: Checkpoint | None = None
        self._fingerprint: str | None = None
        """The source's, when it was first asked for; what is loaded must be of it."""

    @property
    def loaded(self) -> bool:
        """Return whether the model was loaded."""
        return self._checkpoint is not None

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.source.name

    def fingerprint(self) -> str:
        """Return the source's fingerprint, which stays the same for as long as this is used.

        Raises:
            CheckpointChangedError: the source's files have changed since it was first asked for.
        """
        if self._fingerprint is None:
            self._fingerprint = self.source.fingerprint()
        else:
            check_unchanged(self.source, self._fingerprint)
        return self._fingerprint

    def tokenizer(self) -> Any:
        """Return the source's tokenizer."""
        return self.source.tokenizer()

    def processor(self) -> ImageProcessor:
        """Return the processor of images of the source."""
        return processor_of(self.source)

    def load(self) -> Checkpoint:
        """Return the checkpoint, and load it if this is its first use.

        Raises:
            CheckpointChangedError: its files changed since its fingerprint was asked for, or while they were loaded.
        """
        if self._checkpoint is None:
            start = time.perf_counter()
            self.fingerprint()  # before it is loaded, so that a change meanwhile is noticed
            with stage("load"):
                self._checkpoint = _kept.take(self.source) or self._loaded_anew()
            self.load_seconds = time.perf_counter() - start
        return self._checkpoint

    def _loaded_anew(self) -> Checkpoint:
        try:
            return self.source.load()
        finally:
            self.fingerprint()  # of files that change, the error of a half written one is not the reason

    def __enter__(self) -> LoadedOnce:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._checkpoint is None:
            return
        if _kept.wanted and error is None:  # work that failed may have left hooks or half a change in the model
            assert self._fingerprint is not None, "it was taken before the model was loaded"
            _kept.put(self.source, self._checkpoint, self._fingerprint)
        else:
            _free(self._checkpoint)
        self._checkpoint = None


def _free(checkpoint: Checkpoint) -> None:
    """Free a model's memory."""
    # A model's modules refer to one another, so only the garbage collector would free it, some time later.
    # Replacing the weights by empty tensors frees their memory at once.
    for tensor in checkpoint.tensors:
        tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
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
