"""What differs between the weights of two checkpoints, tensor by tensor.

:func:`rlcircuits.checkpoints.compare_weights.compare_weights` measures it. It describes an update, and is no evidence
of how the update was trained: in the shipped pairs supervised training puts a larger share of the squared update on
the unembedding than RL does, which need not be so elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field

from rlcircuits.common.reprs import short_repr
from rlcircuits.models.tensor_groups import GROUPS, Group, group_of, is_token_embedding, layer_of

__all__ = ["ChangeSummary", "TensorChange", "UnmatchedTensor", "WeightChanges"]

_Key = TypeVar("_Key")
_Norm = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Cosine = Annotated[float, Field(ge=-1, le=1)]
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TensorChange:
    """The update of one weight: after - before. Norms are Frobenius norms."""

    name: str
    """The weight's name in the model; where the files have experts apart that the model has together, in the files."""
    size: int
    """Number of elements."""
    before_norm: _Norm
    update_norm: _Norm
    cosine: _Cosine | None
    """Cosine of the update with before's weight, which is its radial part: 1 where the weight was only scaled up. None
    where one of the two is zero."""
    largest_row_share: _Share | None
    """Largest share that one row (the last dimension; one element of a vector) has of the squared update. None where
    the update is zero."""
    reference_cosine: _Cosine | None = None
    """Cosine of the update with the reference's. None without a reference, or where one of the two is zero."""

    @property
    def changed(self) -> bool:
        """Return whether any element differs."""
        return self.update_norm > 0

    @property
    def group(self) -> Group:
        """Return the group of the module that the weight belongs to."""
        return group_of(self.name)

    @property
    def layer(self) -> int | None:
        """Return the index of the weight's decoder block; None for a weight in no block."""
        return layer_of(self.name)


@dataclass(frozen=True)
class UnmatchedTensor:
    """A weight that only one of the two checkpoints has, or that they have in two shapes. It counts as changed."""

    name: str
    before: tuple[int, ...] | None
    """Its shape; None where it is missing."""
    after: tuple[int, ...] | None


@dataclass(frozen=True)
class ChangeSummary:
    """How a part of the model changed."""

    changed: int
    """Number of weights that differ."""
    count: int
    """Number of weights."""
    before_norm: float
    """Norm over all weights of the part, but the unmatched."""
    update_norm: float
    squared_share: float | None
    """Share of the model's squared update. None where the model did not change."""


@dataclass(frozen=True)
class WeightChanges:
    """What differs between the weights of two checkpoints."""

    tensors: tuple[TensorChange, ...]
    """Every weight that both have, in one shape; a weight of tied embeddings once."""
    unmatched: tuple[UnmatchedTensor, ...]
    """Every other weight."""
    tied: bool
    """Whether one weight embeds and unembeds, in both checkpoints."""
    reference: str | None = None
    """Name of the checkpoint of the same base whose update is compared."""
    reference_cosine: _Cosine | None = None
    """Cosine of the whole update with the reference's. None without a reference, or where one of the two is zero."""

    def __repr__(self) -> str:
        return short_repr(self, f"{self.changed} of {self.count} tensors changed", f"norm {self.update_norm:.3g}")

    @property
    def changed(self) -> int:
        """Return the number of weights that differ; 0 says that both are one model."""
        return sum(tensor.changed for tensor in self.tensors) + len(self.unmatched)

    @property
    def count(self) -> int:
        """Return the number of weights."""
        return len(self.tensors) + len(self.unmatched)

    @property
    def before_norm(self) -> float:
        """Return the norm of all weights before, but the unmatched."""
        return math.hypot(*(tensor.before_norm for tensor in self.tensors))

    @property
    def update_norm(self) -> float:
        """Return the norm of the update of all weights, but the unmatched."""
        return math.hypot(*(tensor.update_norm for tensor in self.tensors))

    @property
    def cosine(self) -> float | None:
        """Return the cosine of the update of all weights with the weights before; None where one of them is zero."""
        norms = self.before_norm * self.update_norm
        if not norms:
            return None
        dot = math.fsum((tensor.cosine or 0.0) * tensor.before_norm * tensor.update_norm for tensor in self.tensors)
        return max(-1.0, min(1.0, dot / norms))

    @property
    def unembedding_share(self) -> float | None:
        """Return the unembedding's share of the squared update, where embeddings are tied that of the tied weight.

        None where nothing changed, or the unembedding is unmatched.
        """
        if any(_unembeds(tensor.name, self.tied) for tensor in self.unmatched):
            return None
        return _share([tensor for tensor in self.tensors if _unembeds(tensor.name, self.tied)], self.update_norm)

    def by_group(self) -> dict[Group, ChangeSummary]:
        """Return a summary for each group of modules that the model has."""
        found = self._by(group_of)
        return {group: found[group] for group in GROUPS if group in found}

    def by_layer(self) -> dict[int | None, ChangeSummary]:
        """Return a summary for each decoder block, by its index, and under None for the weights in no block."""
        return self._by(layer_of)

    def _by(self, key: Callable[[str], _Key]) -> dict[_Key, ChangeSummary]:
        parts: dict[_Key, tuple[list[TensorChange], list[UnmatchedTensor]]] = {}
        for tensor in self.tensors:
            parts.setdefault(key(tensor.name), ([], []))[0].append(tensor)
        for unmatched in self.unmatched:
            parts.setdefault(key(unmatched.name), ([], []))[1].append(unmatched)
        return {
            part: ChangeSummary(
                changed=sum(tensor.changed for tensor in matched) + len(others),
                count=len(matched) + len(others),
                before_norm=math.hypot(*(tensor.before_norm for tensor in matched)),
                update_norm=math.hypot(*(tensor.update_norm for tensor in matched)),
                squared_share=_share(matched, self.update_norm),
            )
            for part, (matched, others) in parts.items()
        }


def _share(tensors: Iterable[TensorChange], update_norm: float) -> float | None:
    if not update_norm:
        return None
    return (math.hypot(*(tensor.update_norm for tensor in tensors)) / update_norm) ** 2


def _unembeds(name: str, tied: bool) -> bool:
    return is_token_embedding(name) if tied else group_of(name) == "unembedding"
