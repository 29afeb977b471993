"""Open several checkpoints side by side and read the weights that they have in common, one at a time.

1. Weights are read from the files one at a time, so that memory holds one weight of each checkpoint. Sources without
   files of whole weights (LoRA adapters, noised checkpoints) are loaded instead.
2. If the files of two checkpoints name or split their weights differently, those are loaded too, since all loaded
   models of a family have the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.tensor_reader import LoadedTensors, StoredTensors, TensorReader, can_stream, find_key
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["AlignedWeight", "align_weights", "check_finite", "not_finite", "open_readers"]


@dataclass(frozen=True)
class AlignedWeight:
    """One weight of several checkpoints, not yet read."""

    key: str
    """Its name in the loaded model; where the files have experts apart that the model has together, in the files."""
    shapes: tuple[tuple[int, ...] | None, ...]
    """Its shape in each checkpoint; None where a checkpoint lacks it."""
    readers: tuple[TensorReader, ...]
    """Where each checkpoint's weights are read from."""

    @property
    def matches(self) -> bool:
        """Return whether all checkpoints have it, in one shape."""
        return self.shapes[0] is not None and len(set(self.shapes)) == 1

    def read(self) -> list[Tensor]:
        """Return the weight of each checkpoint that has it, on the CPU, in the dtype that it is loaded in."""
        places = [find_key(reader, self.key) for reader in self.readers]
        return [reader.read(place) for reader, place in zip(self.readers, places, strict=True) if place is not None]


def open_readers(sources: Sequence[Source], opened: ExitStack) -> tuple[TensorReader, ...]:
    """Return a reader for each source, under whose keys the same weights are found as far as possible.

    Args:
        sources: the checkpoints.
        opened: closes the files.

    Raises:
        RLCircuitsError: a checkpoint's file is missing or damaged, or a source cannot be loaded.
    """
    readers = [_reader(source, opened) for source in sources]
    keys = _all_keys(readers)
    if all(find_key(reader, key) is not None for reader in readers for key in keys):
        return tuple(readers)
    return tuple(
        LoadedTensors(source) if isinstance(reader, StoredTensors) else reader
        for source, reader in zip(sources, readers, strict=True)
    )


def align_weights(readers: Sequence[TensorReader]) -> Iterator[AlignedWeight]:
    """Yield every weight that a checkpoint has, in the order of the layers.

    Args:
        readers: what :func:`open_readers` returned.
    """
    readers = tuple(readers)
    for key in sorted(_all_keys(readers), key=_natural):
        places = [find_key(reader, key) for reader in readers]
        shapes = tuple(
            None if place is None else tuple(reader.shapes[place])
            for reader, place in zip(readers, places, strict=True)
        )
        yield AlignedWeight(key, shapes, readers)


def not_finite(name: str, key: str) -> RLCircuitsError:
    """Return the error for a weight that holds NaN or Inf.

    Args:
        name: the checkpoint's name.
        key: the weight's name.
    """
    return RLCircuitsError(f"{name}: weight {key} holds NaN or Inf; the checkpoint is damaged")


def check_finite(names: Sequence[str], key: str, weights: Sequence[Tensor]) -> None:
    """Raise RLCircuitsError for the first checkpoint whose weight holds NaN or Inf, as loading it does.

    Args:
        names: the checkpoints' names.
        key: the weight's name.
        weights: the weight of each checkpoint.
    """
    for name, weight in zip(names, weights, strict=True):
        if not torch.isfinite(weight).all():
            raise not_finite(name, key)


def _reader(source: Source, opened: ExitStack) -> TensorReader:
    return StoredTensors(source, opened) if can_stream(source) else LoadedTensors(source)


def _all_keys(readers: Sequence[TensorReader]) -> set[str]:
    return {key for reader in readers for key in reader.shapes}


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key to sort names by, in which layer 10 follows layer 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
