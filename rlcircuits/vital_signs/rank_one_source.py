"""The rank-1 checkpoint: before plus the rank-1 part of the update, as a source that can be answered and scored.

"On Predictability of RL Dynamics in LLMs" (arXiv 2510.00553) replaces the update ΔW of every weight matrix of
attention and MLP by

    α σ1 u1 v1ᵀ,    α = ‖ΔW‖_F / ‖σ1 u1 v1ᵀ‖_F = ‖ΔW‖_F / σ1,

so that it is as large as the update. All other weights stay those of before: embeddings, the unembedding, norms and
biases. The study finds that this checkpoint has 99 % of the trained one's accuracy.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcircuits.checkpoints.aligned_weights import check_finite, open_readers
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.tensor_reader import LoadedTensors, TensorReader
from rlcircuits.common.arguments import validate_fields
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash, short_name
from rlcircuits.common.reprs import elided_repr, short_repr
from rlcircuits.models.weight_matrices import MatrixPlace, matrix_places
from rlcircuits.vital_signs.singular import frobenius_norm, top_singular
from rlcircuits.vital_signs.weight_updates import subtract

__all__ = ["RankOneSource"]


@dataclass(frozen=True)
class RankOneSource:
    """A :class:`~rlcircuits.checkpoints.source.Source`: ``before`` plus the rank-1 part of the update to ``after``."""

    before: Source
    """The checkpoint before training."""
    after: Source
    """The checkpoint after training."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        return short_repr(self, elided_repr(self.before.name), f"rank 1 of {elided_repr(self.after.name)}")

    @property
    def name(self) -> str:
        """The name of ``before``, and the short name of ``after``."""
        return f"{self.before.name} + rank 1 of {short_name(self.after.name)}"

    @property
    def context_length(self) -> int | None:
        """The context length of ``before``, or None if it is not known before loading."""
        return getattr(self.before, "context_length", None)

    def fingerprint(self) -> str:
        """Return the hex sha256 of both checkpoints' fingerprints."""
        return content_hash({"rank one": self.before.fingerprint(), "of": self.after.fingerprint()})

    def tokenizer(self) -> Any:
        """Return the tokenizer of ``before``."""
        return self.before.tokenizer()

    def load(self) -> Checkpoint:
        """Load ``before`` and add the rank-1 part of the update to it, in place, in the dtype that it is loaded in.

        ``after`` is read weight by weight where its files can be.

        Raises:
            RLCircuitsError: ``after`` lacks a matrix of attention or MLP, or has it in another shape, a file of it is
                damaged, or a weight holds NaN or Inf.
        """
        checkpoint = self.before.load()
        config = checkpoint.model.config.get_text_config()
        places = {
            name: found
            for name, parameter in checkpoint.model.named_parameters()
            if (found := matrix_places(name, tuple(parameter.shape), config))
        }
        with ExitStack() as opened:
            (reader,) = open_readers([self.after], opened)
            if not places.keys() <= reader.shapes.keys():  # its files hold experts apart
                reader = LoadedTensors(self.after)
            for name, parameter in checkpoint.model.named_parameters():
                if name in places:
                    self._add_rank_one(name, parameter, places[name], reader)
        checkpoint.name = self.name
        return checkpoint

    @torch.no_grad()
    def _add_rank_one(
        self, name: str, parameter: Tensor, places: tuple[MatrixPlace, ...], reader: TensorReader
    ) -> None:
        shapes = tuple(parameter.shape), reader.shapes.get(name)
        if shapes[0] != shapes[1]:
            theirs = "missing" if shapes[1] is None else str(list(shapes[1]))
            raise RLCircuitsError(
                f"the rank-1 checkpoint needs the same matrices before and after: {name} is {list(shapes[0])} in "
                f"{self.before.name} and {theirs} in {self.after.name}"
            )
        before, after = parameter.detach().cpu(), reader.read(name)
        check_finite([self.after.name], name, [after])
        moved = before.clone()
        for place in places:
            old, new = place.take(before), place.take(after)
            place.put(moved, with_rank_one(old, subtract(old, new)))
        parameter.copy_(moved)


def with_rank_one(matrix: Tensor, update: Tensor) -> Tensor:
    """Return a matrix plus the rank-1 part of an update, scaled to the update's Frobenius norm.

    Args:
        matrix: any floating dtype [rows, columns].
        update: float64 or float32 of the same shape.

    Returns:
        The sum, made in the update's dtype, in the matrix's dtype.
    """
    top, norm = top_singular(update), frobenius_norm(update)
    return (matrix.to(update.dtype) + torch.outer(norm * top.left, top.right)).to(matrix.dtype)
