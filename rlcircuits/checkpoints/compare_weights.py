"""Measure what differs between the weights of two checkpoints, without running a model.

Memory holds one weight of each checkpoint where files can be read (:mod:`rlcircuits.checkpoints.aligned_weights`).
Sums are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.checkpoints.aligned_weights import align_weights, not_finite, open_readers
from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.tensor_reader import StoredTensors, can_stream
from rlcircuits.checkpoints.weight_changes import TensorChange, UnmatchedTensor, WeightChanges
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.tensor_groups import GROUPS, Group, group_of

__all__ = ["compare_weights", "group_changed", "groups_in_files"]

# Elements that are converted to float64 at a time: few enough to stay in a processor's cache.
_CHUNK = 1 << 17


@validate_arguments
def compare_weights(before: Source, after: Source, reference: Source | None = None) -> WeightChanges:
    """Measure what differs between the weights of two checkpoints.

    Weights are compared in the dtype in which each checkpoint is loaded.

    Args:
        before: the checkpoint before training.
        after: the checkpoint after training.
        reference: another checkpoint that was trained from ``before``, for example without RL, whose update is compared
            with that of ``after``.

    Returns:
        The norm of the update of every weight, its direction, and where it is.

    Raises:
        RLCircuitsError: a checkpoint's file is missing or damaged; a weight holds NaN or Inf; or ``reference`` lacks a
            weight of the other two, or has it in another shape.
    """
    sources = [before, after, *([] if reference is None else [reference])]
    with ExitStack() as opened:
        readers = open_readers(sources, opened)
        tensors, unmatched, total = [], [], _Sums()
        for weight in align_weights(readers):
            old, new, *other = weight.shapes
            if old is None or old != new:
                if old is not None or new is not None:  # else only the reference has it
                    unmatched.append(UnmatchedTensor(weight.key, old, new))
                continue
            if reference is not None and other[0] != old:
                found = "lacks" if other[0] is None else f"has as {list(other[0])}"
                raise RLCircuitsError(
                    f"{reference.name} is no other training of {before.name}: it {found} weight {weight.key}, which "
                    f"is {list(old)} there; a checkpoint of the same base is wanted"
                )
            sums = _Sums.of(*weight.read())
            _check_finite(sources, weight.key, sums)
            tensors.append(sums.change(weight.key, math.prod(old)))
            total += sums
        return WeightChanges(
            tensors=tuple(tensors),
            unmatched=tuple(unmatched),
            tied=readers[0].tied and readers[1].tied,
            reference=None if reference is None else reference.name,
            reference_cosine=total.reference_cosine,
        )


def group_changed(before: Source, after: Source, group: Group) -> bool:
    """Return whether a weight of a group differs between two checkpoints, as :func:`compare_weights` would say.

    Reads the group's weights alone, and only up to the first that differs.

    Args:
        before: one checkpoint.
        after: the other.
        group: the group of weights.

    Raises:
        RLCircuitsError: the weights of a checkpoint cannot be read.
    """
    with ExitStack() as opened:
        for weight in align_weights(open_readers([before, after], opened)):
            if group_of(weight.key) == group and not (weight.matches and torch.equal(*weight.read())):
                return True
    return False


def groups_in_files(sources: Sequence[Source]) -> tuple[Group, ...]:
    """Return the groups that checkpoints have weights of, in the order of tables, by the headers of their files.

    Of a checkpoint that is known only once it is loaded, such as a quantised one, these are all groups.

    Args:
        sources: the checkpoints.

    Raises:
        RLCircuitsError: the weights of a checkpoint cannot be read.
    """
    found: set[Group] = set()
    with ExitStack() as opened:
        for source in sources:
            if not can_stream(source):
                return GROUPS
            found |= {group_of(name) for name in StoredTensors(source, opened).shapes}
    return tuple(group for group in GROUPS if group in found)


@dataclass
class _Sums:
    """Sums over the elements of one weight, or of several: squares, and products of two tensors.

    Args:
        before: of before's squares.
        after: of after's squares.
        update: of the update's squares.
        radial: of update × before.
        reference: of the squares of the reference's update.
        shared: of update × reference's update.
        row: the largest sum of the update's squares over a row.
    """

    before: float = 0.0
    after: float = 0.0
    update: float = 0.0
    radial: float = 0.0
    reference: float = 0.0
    shared: float = 0.0
    row: float = 0.0

    @classmethod
    def of(cls, before: Tensor, after: Tensor, reference: Tensor | None = None) -> _Sums:
        """Return the sums of one weight, in chunks of rows so that no whole weight is in float64."""
        sums = cls()
        if not before.numel():
            return sums
        width = before.shape[-1] if before.ndim > 1 else 1
        rows = [tensor.reshape(-1, width) for tensor in (before, after, reference) if tensor is not None]
        step = max(1, _CHUNK // width)
        for start in range(0, len(rows[0]), step):
            old, new, *other = (tensor[start : start + step].double() for tensor in rows)
            update = new - old
            by_row = update.square().sum(1)
            sums.before += float(old.square().sum())
            sums.after += float(new.square().sum())
            sums.update += float(by_row.sum())
            sums.radial += float((update * old).sum())
            sums.row = max(sums.row, float(by_row.max()))
            if other:
                theirs = other[0] - old
                sums.reference += float(theirs.square().sum())
                sums.shared += float((update * theirs).sum())
        return sums

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.before + other.before,
            self.after + other.after,
            self.update + other.update,
            self.radial + other.radial,
            self.reference + other.reference,
            self.shared + other.shared,
            max(self.row, other.row),
        )

    @property
    def reference_cosine(self) -> float | None:
        """Return the cosine of the update with the reference's; None where one of them is zero."""
        return _cosine(self.shared, self.update, self.reference)

    def change(self, name: str, size: int) -> TensorChange:
        """Return the sums of one weight as its change."""
        return TensorChange(
            name=name,
            size=size,
            before_norm=math.sqrt(self.before),
            update_norm=math.sqrt(self.update),
            cosine=_cosine(self.radial, self.update, self.before),
            largest_row_share=min(1.0, self.row / self.update) if self.update else None,
            reference_cosine=self.reference_cosine,
        )


def _cosine(dot: float, square: float, other: float) -> float | None:
    norms = math.sqrt(square) * math.sqrt(other)
    return max(-1.0, min(1.0, dot / norms)) if norms else None


def _check_finite(sources: Sequence[Source], name: str, sums: _Sums) -> None:
    """Raise RLCircuitsError for a checkpoint whose weight holds NaN or Inf, as loading it does."""
    for source, total in zip(sources, (sums.before, sums.after, sums.reference), strict=False):
        if not math.isfinite(total):
            raise not_finite(source.name, name)
