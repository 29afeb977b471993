"""The parts of an update that only rescale what a matrix has: its columns, or its own singular directions.

A column is what one input feature contributes. A head whose output is multiplied, or zeroed, is a block of columns of
the attention's output matrix, and so is a neuron of the MLP's. The part of an update that only rescales columns has, on
each column, the update's component along that column.

Sharpening, flattening or multiplying a matrix rescales its singular directions. Let W = U S Vᵀ be a matrix of m × n
with m ≥ n (else its transpose), and D an update of it. Each right singular vector v is mapped to W v. What D does to
that direction alone is the multiple

    c(v) = ⟨W v, D v⟩ / ⟨W v, W v⟩,

and the part of D that does this to every direction and nothing else is W · V diag(c) Vᵀ = U diag(c S) Vᵀ. An update
that raises all singular values to a power, or multiplies the matrix, is this part and nothing else. Of a random update
it has about 1/m of the squared norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["column_rescaling", "spectral_rescaling"]

_LEAST = 1e-6
"""Singular values below this share of the largest count as 0: their directions are not determined."""

_CHUNK = 2**24
"""Entries of a matrix that are in float64 at once."""


def column_rescaling(weight: Tensor, update: Tensor) -> Tensor:
    """Return the part of an update that only rescales the columns of a matrix; 0 for a vector.

    Args:
        weight: a vector, a matrix, or a stack of matrices (experts), float32.
        update: of the same shape.

    Returns:
        float32, of the same shape.
    """
    if weight.dim() < 2:
        return torch.zeros_like(weight)
    squares = (weight * weight).sum(-2, keepdim=True)
    return (weight * update).sum(-2, keepdim=True) / torch.where(squares > 0, squares, 1.0) * weight


def spectral_rescaling(weight: Tensor, update: Tensor) -> Tensor:
    """Return the part of an update that only rescales the singular directions of a matrix; 0 for a vector.

    It is computed in float64, on the CPU unless the tensors are on a CUDA device. The singular vectors come from the
    smaller Gram matrix, which costs less than a singular value decomposition, and is summed over a part of the rows at
    a time.

    Args:
        weight: a vector, a matrix, or a stack of matrices (experts), float.
        update: of the same shape.

    Returns:
        float32, of the same shape and on the weight's device.
    """
    found = torch.zeros_like(weight, dtype=torch.float32)
    if weight.dim() > 2:
        for place in range(len(weight)):
            found[place] = spectral_rescaling(weight[place], update[place])
    elif weight.dim() == 2:
        tall = weight.shape[0] >= weight.shape[1]
        _fill(*(each if tall else each.T for each in (weight.detach(), update.detach(), found)))
    return found


def _fill(weight: Tensor, update: Tensor, found: Tensor) -> None:
    """Write the part of the update of a matrix [m, n], m ≥ n, into `found`."""
    work = weight.device if weight.device.type == "cuda" else torch.device("cpu")
    n = weight.shape[1]
    rows = max(_CHUNK // n, 1)

    def exact(part: Tensor) -> Tensor:
        return part.to(work, torch.float64)

    gram = torch.zeros(n, n, dtype=torch.float64, device=work)
    for part in weight.split(rows):
        gram += exact(part).T @ exact(part)
    squares, right = torch.linalg.eigh(gram)
    along, own = (torch.zeros(n, dtype=torch.float64, device=work) for _ in range(2))
    for part, moved in zip(weight.split(rows), update.split(rows), strict=True):
        mapped = exact(part) @ right
        along += (mapped * (exact(moved) @ right)).sum(0)
        own += (mapped * mapped).sum(0)
    known = squares > _LEAST**2 * squares.max()
    factors = torch.where(known, along / torch.where(known, own, 1.0), 0.0)
    for part, place in zip(weight.split(rows), found.split(rows), strict=True):
        place.copy_(((exact(part) @ (right * factors)) @ right.T).to(place.dtype))
