"""Products of float32 matrices on a CPU by oneDNN, which some processors run faster than torch's default.

torch multiplies float32 matrices with MKL, which takes its widest instructions on Intel's processors only. oneDNN comes
with torch too, and takes what the processor offers. Both add in float32. ``benchmarks/speed/product_rates.py`` prints
the rates of both.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

__all__ = ["can_use_onednn", "linear_product", "product_of_heads"]

_LEAST_MULTIPLICATIONS = 2**21
"""Multiplications below which a product gains less than it costs oneDNN to compile its shape, once a process."""

_LEAST_PER_THREAD = 1024
"""Numbers of the result for each thread below which oneDNN has too little to share out."""


def can_use_onednn(like: Tensor, rows: int, columns: int, inner: int) -> bool:
    """Return whether oneDNN is to multiply [rows, inner] with [inner, columns].

    Args:
        like: A factor, for its device and dtype.
        rows: Rows of the result.
        columns: Columns of the result.
        inner: What is summed over.
    """
    if like.dtype != torch.float32 or like.device.type != "cpu":
        return False
    enough = rows * columns * inner >= _LEAST_MULTIPLICATIONS
    return enough and rows * columns >= _LEAST_PER_THREAD * torch.get_num_threads() and _has_onednn()


def linear_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left · rightᵀ, [..., inner] and [columns, inner] → [..., columns].

    On a CPU the memory of ``right``, or that of its transpose, is best contiguous.
    """
    if _are_differentiated(left, right) or not can_use_onednn(left, left.shape[:-1].numel(), *right.shape):
        return left @ right.T
    if not (right.is_contiguous() or right.T.is_contiguous()):
        right = right.contiguous()  # oneDNN's own way to do so is a thousand times slower
    return _by_onednn(left, right)


def product_of_heads(features: Tensor, weight: Tensor) -> Tensor:
    """Return each head's features times its rows of a weight.

    Args:
        features: [batch, pos, heads, head_dim].
        weight: [heads, head_dim, width].

    Returns:
        [heads, batch, pos, width].
    """
    batch, pos, heads, head_dim = features.shape
    width = weight.shape[-1]
    if _are_differentiated(features, weight) or not can_use_onednn(features, batch * pos, width, head_dim):
        product: Tensor = torch.einsum("bthd,hdm->hbtm", features, weight)
        return product
    product = features.new_empty(heads, batch, pos, width)
    for of_head, its_features, its_weight in zip(product, features.unbind(2), weight, strict=True):
        of_head.copy_(linear_product(its_features, its_weight.T))
    return product


def _are_differentiated(*factors: Tensor) -> bool:
    """Return whether a gradient is wanted. None flows through oneDNN's product, and torch only warns of that."""
    return torch.is_grad_enabled() and any(factor.requires_grad for factor in factors)


def _has_onednn() -> bool:
    # torch.backends.mkldnn.enabled is a user's switch, which may change.
    return bool(torch.backends.mkldnn.enabled) and _offers_linear()


@cache
def _offers_linear() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    one = torch.ones(1, 1)
    try:  # it is no public function of torch, and may be another one some day
        return bool(torch.equal(_by_onednn(one, one), one))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _by_onednn(left: Tensor, right: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return product
