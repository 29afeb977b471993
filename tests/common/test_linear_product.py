"""Products by oneDNN against float64, for every layout of memory that a factor may have."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.common import linear_product as products
from rlcircuits.common.linear_product import can_use_onednn, linear_product, product_of_heads

EVERY_SIZE = {"_LEAST_MULTIPLICATIONS": 1, "_LEAST_PER_THREAD": 0}
LARGE = 64, 128, 4096

needs_onednn = pytest.mark.skipif(
    not can_use_onednn(torch.empty(0), *LARGE), reason="this torch has no oneDNN for linear layers"
)


def laid_out(matrix: Tensor, layout: str) -> Tensor:
    """The same matrix, [rows, columns], with another layout of its memory."""
    if layout == "transposed":
        return matrix.T.contiguous().T
    if layout == "part":
        return torch.cat([matrix, matrix], dim=1)[:, : matrix.shape[1]]
    if layout == "every second":
        return matrix.repeat_interleave(2, dim=1)[:, ::2]
    return matrix


layouts = st.sampled_from(["contiguous", "transposed", "part", "every second"])
sizes = st.integers(1, 20)


@needs_onednn
@given(rows=sizes, columns=sizes, inner=st.integers(1, 200), left=layouts, right=layouts, seed=st.integers(0, 99))
def test_a_product_is_that_in_float64(rows: int, columns: int, inner: int, left: str, right: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(size, inner, generator=generator) for size in (rows, columns)]
    wanted = factors[0].double() @ factors[1].double().T
    with mock.patch.multiple(products, **EVERY_SIZE):
        found = linear_product(laid_out(factors[0], left), laid_out(factors[1], right))
    most = factors[0].double().abs() @ factors[1].double().abs().T
    assert ((found.double() - wanted).abs() <= 1e-6 * most).all()


@needs_onednn
@given(batch=sizes, pos=sizes, heads=st.integers(1, 4), head_dim=sizes, width=sizes, shared=st.booleans())
def test_heads_are_multiplied_one_by_one(
    batch: int, pos: int, heads: int, head_dim: int, width: int, shared: bool
) -> None:
    generator = torch.Generator().manual_seed(batch)
    features = torch.randn(batch, pos, heads, head_dim, generator=generator)
    weight = torch.randn(1 if shared else heads, head_dim, width, generator=generator).expand(heads, -1, -1)
    wanted = torch.einsum("bthd,hdm->hbtm", features.double(), weight.double())
    with mock.patch.multiple(products, **EVERY_SIZE):
        found = product_of_heads(features, weight)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_a_factor_in_parts_is_not_reordered_by_onednn() -> None:
    """That takes minutes for a matrix of this size."""
    left, right = torch.randn(64, 4, 4096), torch.randn(128, 4, 4096)
    found = linear_product(left[:, 1], right[:, 1])
    torch.testing.assert_close(found, left[:, 1] @ right[:, 1].T, rtol=1e-4, atol=1e-2)


@needs_onednn
@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # from the switch itself
def test_what_onednn_multiplies() -> None:
    rows, columns, inner = LARGE
    assert not can_use_onednn(torch.empty(0), 2, 2, inner), "too small to be worth compiling"
    assert not can_use_onednn(torch.empty(0, dtype=torch.float64), rows, columns, inner)
    assert not can_use_onednn(torch.empty(0, dtype=torch.bfloat16), rows, columns, inner)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not can_use_onednn(torch.empty(0), rows, columns, inner), "switched off by the user"


@given(first=st.booleans(), second=st.booleans())
def test_gradients_flow_through_every_factor_that_wants_one(first: bool, second: bool) -> None:
    rows, columns, inner = LARGE
    left, right = torch.ones(2, rows // 2, 1, inner), torch.ones(1, inner, columns)
    left.requires_grad_(first)
    right.requires_grad_(second)
    product = product_of_heads(left, right)
    assert product.requires_grad == (first or second)
    if first or second:
        product.sum().backward()
    assert left.grad is None or torch.equal(left.grad, torch.full_like(left, columns))
    assert right.grad is None or torch.equal(right.grad, torch.full_like(right, rows))
    assert [left.grad is not None, right.grad is not None] == [first, second]
