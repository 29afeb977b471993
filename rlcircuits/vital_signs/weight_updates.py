"""Stream what training added to the weights, ΔW = after − before, tensor by tensor.

Memory holds one weight of each checkpoint and one matrix of ΔW, so two checkpoints of 7B parameters in bfloat16 need
less than 8 GB (:mod:`rlcircuits.checkpoints.aligned_weights`).

A weight is subtracted in the dtypes that it is loaded in, in float64 where the matrix is small (:data:`EXACT_UP_TO`)
and in float32 otherwise. Both are exact for weights in bfloat16 whose update is smaller than they are. Sums of squares
are in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rlcircuits.checkpoints.aligned_weights import AlignedWeight, align_weights, check_finite, open_readers
from rlcircuits.checkpoints.source import Source
from rlcircuits.models.tensor_groups import Group, group_of
from rlcircuits.models.weight_matrices import MatrixPlace, matrix_places

__all__ = [
    "EXACT_UP_TO",
    "MatrixUpdate",
    "WeightUpdate",
    "WeightUpdates",
    "open_updates",
    "row_chunks",
    "squared_norm",
    "subtract",
]

EXACT_UP_TO = 256
"""Smaller dimension up to which a matrix of ΔW is in float64, and its singular values are those of an exact SVD."""

# Elements that are converted to float64 at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class MatrixUpdate:
    """One matrix of ΔW: a projection of an attention, or a layer of an MLP or of an expert."""

    name: str
    """The weight's name, and in brackets which of its matrices: ``…attention.query_key_value.weight [q]``."""
    update: Tensor
    """After − before, float64 or float32 [rows, columns], on the CPU."""


@dataclass(frozen=True, eq=False)
class WeightUpdate:
    """One weight of both checkpoints."""

    name: str
    before: Tensor
    """On the CPU, in the dtype that it is loaded in."""
    after: Tensor
    places: tuple[MatrixPlace, ...]
    """Its matrices, if it is of an attention or MLP; none otherwise."""

    @property
    def group(self) -> Group:
        """Return the group of the module that the weight belongs to."""
        return group_of(self.name)

    @cached_property
    def squared_norm(self) -> float:
        """Return ‖ΔW‖²_F, summed in float64."""
        return squared_norm(self.before, self.after)

    def matrices(self) -> Iterator[MatrixUpdate]:
        """Yield each of its matrices of ΔW."""
        for place in self.places:
            name = f"{self.name} [{place.name}]" if place.name else self.name
            yield MatrixUpdate(name, subtract(place.take(self.before), place.take(self.after)))


@dataclass(frozen=True)
class WeightUpdates:
    """What differs between the weights of two checkpoints, to be read once, weight by weight."""

    tied: bool
    """Whether one weight embeds and unembeds, in both checkpoints."""
    unmatched: tuple[str, ...]
    """The weights that only one of the two has, or that they have in two shapes. They have no ΔW."""
    names: tuple[str, str]
    """The checkpoints' names."""
    config: Any
    """The Hugging Face config of before's (text) model."""
    weights: tuple[AlignedWeight, ...]
    """The weights that both have, unread."""

    def __iter__(self) -> Iterator[WeightUpdate]:
        """Yield the update of each weight that both have, in the order of the layers.

        Raises:
            RLCircuitsError: a file is damaged, a weight holds NaN or Inf, or the family of the model is not supported.
        """
        for weight in self.weights:
            before, after = weight.read()
            check_finite(self.names, weight.key, (before, after))
            yield WeightUpdate(weight.key, before, after, matrix_places(weight.key, tuple(before.shape), self.config))


@contextmanager
def open_updates(before: Source, after: Source) -> Iterator[WeightUpdates]:
    """Open two checkpoints, and close their files at the end.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.

    Raises:
        RLCircuitsError: a checkpoint's file is missing or damaged, or a source cannot be loaded.
    """
    with ExitStack() as opened:
        readers = open_readers([before, after], opened)
        weights = tuple(align_weights(readers))
        yield WeightUpdates(
            tied=readers[0].tied and readers[1].tied,
            unmatched=tuple(weight.key for weight in weights if not weight.matches),
            names=(before.name, after.name),
            config=readers[0].config,
            weights=tuple(weight for weight in weights if weight.matches),
        )


def subtract(before: Tensor, after: Tensor) -> Tensor:
    """Return after − before of one matrix, in float64 if it is small or stored in float64, else in float32.

    Args:
        before: any floating dtype [rows, columns].
        after: the same shape.
    """
    small = min(before.shape) <= EXACT_UP_TO
    dtype = torch.float64 if small or torch.float64 in (before.dtype, after.dtype) else torch.float32
    return after.to(dtype) - before.to(dtype)


def squared_norm(before: Tensor, after: Tensor, common: Tensor | None = None) -> float:
    """Return ‖after − before − common‖²_F in float64, a few rows at a time.

    Args:
        before: any floating dtype [rows, …].
        after: the same shape.
        common: what is taken from each row, float64 of a row's shape; None for nothing.
    """
    return sum(float((rows if common is None else rows - common).square().sum()) for rows in row_chunks(before, after))


def row_chunks(before: Tensor, after: Tensor) -> Iterator[Tensor]:
    """Yield after − before, float64 [some rows, …], all rows in order."""
    if before.ndim == 0:
        before, after = before[None], after[None]
    step = max(1, _CHUNK * len(before) // max(1, before.numel())) if len(before) else 1
    for start in range(0, len(before), step):
        yield after[start : start + step].double() - before[start : start + step].double()
