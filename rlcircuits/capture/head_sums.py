"""The gradients of heads' readers added up over several backwards, at the heads' features.

With f_k the features' gradients of backward k (the norm's scale applied), W' the projection's rows (the norm's weight
applied), and d_k the direction that the norm's VJP removes,

    Σ_k ∂ℓ_k/∂x_v = (Σ_k f_k) W' − Σ_k ℓ_k d_k,    ℓ_k = mean(f_k W' · d_k) = f_k · (W' d_k) / width.

The first term is one sum, n_heads times smaller than the gradients. Of the second, each backward keeps d_k, as large as
the stream and shared by q, k and v, and a number ℓ_k for each head and position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.capture.reader_grads import GradSum, PendingReaderGrads, ReaderGrads, sum_dtype
from rlcircuits.common.linear_product import product_of_heads


@dataclass(frozen=True)
class HeadPart:
    """The gradients of one kind's readers (q, k or v) in one backward.

    Args:
        features: f, [batch, pos, heads · head_dim].
        weight: W', [heads, head_dim, width]; the same in every backward.
        direction: d, [batch, pos, width]; None if nothing is removed.
        rounding_correction: What ℓ is multiplied by, [batch, pos]; None for 1. See ``rlcircuits.models.norms.Factors``.
    """

    features: Tensor
    weight: Tensor
    direction: Tensor | None
    rounding_correction: Tensor | None

    def start_sum(self, indices: range) -> GradSum:
        """Return a sum that holds only this term."""
        return _HeadSum(indices, self)

    def lengths(self) -> Tensor:
        """Return ℓ, float32 (float64 for float64 features), [heads, batch, pos]."""
        assert self.direction is not None
        work = sum_dtype(self.features.dtype)
        projected = torch.einsum("btm,hdm->bthd", self.direction.to(work), self.weight.to(work))
        features = self.features.unflatten(-1, self.weight.shape[:2]).to(work)
        lengths: Tensor = torch.linalg.vecdot(features, projected) / self.direction.shape[-1]
        if self.rounding_correction is not None:
            lengths = lengths * self.rounding_correction[..., None]
        return lengths.permute(2, 0, 1)


class _HeadSum:
    def __init__(self, indices: range, part: HeadPart) -> None:
        self._indices, self._weight, self._dtype = indices, part.weight, part.features.dtype
        self._features = part.features.to(sum_dtype(self._dtype), copy=True)
        self._directions: list[Tensor] = []
        self._lengths: list[Tensor] = []
        self._add_direction(part)

    def add(self, part: HeadPart) -> None:
        self._features += part.features
        self._add_direction(part)

    def _add_direction(self, part: HeadPart) -> None:
        if part.direction is not None:
            self._directions.append(part.direction)
            self._lengths.append(part.lengths())

    def pending(self) -> PendingReaderGrads:
        indices, weight, directions = self._indices, self._weight, self._directions
        features = self._features.to(self._dtype)
        # [backwards, heads, batch, pos, 1]
        lengths = torch.stack(self._lengths).to(self._dtype)[..., None] if directions else None

        def reader_grads(batch_slice: BatchSlice) -> ReaderGrads:
            some = batch_slice.of(features).unflatten(-1, weight.shape[:2])
            grads = product_of_heads(some, weight)
            if lengths is None:
                return ReaderGrads(indices, grads)
            along = torch.stack([batch_slice.of(direction).to(grads.dtype) for direction in directions])
            grads -= torch.einsum("khbt,kbtm->hbtm", batch_slice.of(lengths)[..., 0], along)
            return ReaderGrads(indices, grads)

        return PendingReaderGrads(indices, reader_grads, features.nbytes, features.device)
