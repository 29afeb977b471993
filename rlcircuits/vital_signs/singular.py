"""The largest singular value of a matrix with its vectors, and what noise of the same shape would have.

A small matrix, which is in float64 (:data:`rlcircuits.vital_signs.weight_updates.EXACT_UP_TO`), gets an exact SVD. A
large one gets Lanczos iterations (ARPACK) from a fixed start, and their result is checked: both ‖Av − σu‖ and
‖Aᵀu − σv‖ are at most :data:`TOLERANCE` · σ. Such a σ is within that distance of a singular value. Where the check
fails, the exact SVD is taken. Block power iterations (``torch.svd_lowrank``) are not used: on a flat spectrum, as
noise has, they were 3 % short after six iterations, with one of the two residuals zero by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import linalg
from torch import Tensor

from rlcircuits.vital_signs.weight_updates import EXACT_UP_TO

__all__ = ["TOLERANCE", "TopSingular", "expected_noise_share", "frobenius_norm", "top_singular"]

TOLERANCE = 1e-3
"""Largest residual of an iterated singular triple, relative to the singular value."""

_START_SEED = 0

_CHUNK = 1 << 20

_TRACY_WIDOM_MEAN = -1.2065335745820
"""Mean of the Tracy–Widom distribution of order 1 (Bejan, Largest eigenvalues and sample covariance matrices, 2005)."""


@dataclass(frozen=True, eq=False)
class TopSingular:
    """The largest singular value of a matrix, and its vectors. Both vectors may be negated together."""

    value: float
    left: Tensor
    """u, of norm 1, in the matrix's dtype [rows]."""
    right: Tensor
    """v, of norm 1, in the matrix's dtype [columns]."""


def top_singular(matrix: Tensor) -> TopSingular:
    """Return the largest singular value σ1 of a matrix with its vectors: the best rank-1 matrix is σ1 u vᵀ.

    Args:
        matrix: float64 or float32 [rows, columns], finite, on the CPU.

    Returns:
        The triple; for a matrix of zeros the value 0 with vectors of norm 1.
    """
    scale = _scale(matrix)
    if not scale:
        left, right = (matrix.new_zeros(size) for size in matrix.shape)
        left[:1] = right[:1] = 1
        return TopSingular(0.0, left, right)
    found = None if min(matrix.shape) <= EXACT_UP_TO else _iterated(matrix / scale)
    found = found or _exact(matrix / scale)
    return TopSingular(found.value * scale, found.left, found.right)


def expected_noise_share(rows: int, columns: int) -> float:
    """Return the share σ1 / ‖A‖_F that is expected of a matrix of independent Gaussian noise.

    For large matrices it is 1/√rows + 1/√columns. The next term, which makes it accurate to 1 % from 8 × 8 on, is the
    mean of the Tracy–Widom law (Johnstone, Annals of Statistics 29, 2001, with Ma's centring, Bernoulli 18, 2012):

        E σ1² ≈ (√m + √n)² + E[TW1] · (√m + √n) (1/√m + 1/√n)^⅓,    m = rows − ½, n = columns − ½.

    Args:
        rows: from 1.
        columns: from 1.
    """
    if min(rows, columns) == 1:
        return 1.0
    m, n = rows - 0.5, columns - 0.5
    edge = math.sqrt(m) + math.sqrt(n)
    spread = edge * (1 / math.sqrt(m) + 1 / math.sqrt(n)) ** (1 / 3)
    return math.sqrt((edge**2 + _TRACY_WIDOM_MEAN * spread) / (rows * columns))


def frobenius_norm(matrix: Tensor) -> float:
    """Return ‖A‖_F, summed in float64.

    Args:
        matrix: any floating dtype [rows, columns], finite.
    """
    scale = _scale(matrix)
    if not scale:
        return 0.0
    # A few rows at a time, so that no copy of a large matrix is in float64.
    rows = matrix.split(max(1, _CHUNK // matrix.shape[1]))
    return scale * math.hypot(*(float(torch.linalg.vector_norm(each.double() / scale)) for each in rows))


def _scale(matrix: Tensor) -> float:
    """Return a power of two near the largest magnitude: after division by it squares neither vanish nor overflow."""
    largest = float(matrix.abs().max()) if matrix.numel() else 0.0
    return math.ldexp(1.0, math.frexp(largest)[1]) if largest else 0.0


def _exact(matrix: Tensor) -> TopSingular:
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    return TopSingular(float(s[0]), u[:, 0], vt[0])


def _iterated(matrix: Tensor) -> TopSingular | None:
    """Return the triple by iteration, or None if it does not meet the tolerance."""
    start = np.random.default_rng(_START_SEED).standard_normal(min(matrix.shape))
    array = matrix.numpy()
    try:
        u, s, vt = linalg.svds(array, k=1, tol=TOLERANCE, v0=start.astype(array.dtype), solver="arpack")
    except linalg.ArpackError:
        return None
    found = TopSingular(float(s[0]), torch.from_numpy(u[:, 0].copy()), torch.from_numpy(vt[0].copy()))
    residuals = (
        matrix @ found.right - found.value * found.left,
        matrix.T @ found.left - found.value * found.right,
    )
    return found if max(float(each.norm()) for each in residuals) <= TOLERANCE * found.value else None
