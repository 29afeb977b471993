"""The largest singular triple against numpy, and the closed form for noise against noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.vital_signs import singular
from rlcircuits.vital_signs.singular import TOLERANCE, expected_noise_share, frobenius_norm, top_singular

sizes = st.integers(1, 24)
seeds = st.integers(0, 2**31)


def gaussian(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def orthogonal(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(size, size, seed=seed))[0]


@given(rows=sizes, columns=sizes, seed=seeds, exponent=st.integers(-200, 200))
def test_the_triple_is_numpys(rows: int, columns: int, seed: int, exponent: int) -> None:
    matrix = gaussian(rows, columns, seed=seed) * 2.0**exponent
    top, wanted = top_singular(matrix), np.linalg.svd(matrix.numpy(), compute_uv=False)[0]
    assert top.value == pytest.approx(wanted, rel=1e-12)
    assert frobenius_norm(matrix) == pytest.approx(math.ldexp(float((matrix / 2.0**exponent).norm()), exponent))
    torch.testing.assert_close(matrix @ top.right, top.value * top.left, rtol=1e-10, atol=1e-12 * top.value)
    torch.testing.assert_close(matrix.T @ top.left, top.value * top.right, rtol=1e-10, atol=1e-12 * top.value)
    assert float(top.left.norm()) == pytest.approx(1)
    assert float(top.right.norm()) == pytest.approx(1)


@given(rows=st.integers(2, 60), columns=st.integers(2, 60), rank=st.integers(1, 60), seed=seeds, single=st.booleans())
def test_iterations_find_what_the_exact_svd_finds(rows: int, columns: int, rank: int, seed: int, single: bool) -> None:
    dtype = torch.float32 if single else torch.float64
    matrix = (gaussian(rows, rank, seed=seed) @ gaussian(rank, columns, seed=seed + 1)).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(singular, "EXACT_UP_TO", 1)
        top = top_singular(matrix)
    wanted = float(torch.linalg.svdvals(matrix.double())[0])
    assert top.value == pytest.approx(wanted, rel=TOLERANCE)
    assert float((matrix @ top.right - top.value * top.left).norm()) <= 2 * TOLERANCE * wanted


@pytest.mark.parametrize("size", [2, 5, 300])
def test_a_flat_spectrum(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all singular values are equal, any direction is the first."""
    monkeypatch.setattr(singular, "EXACT_UP_TO", 1)
    assert top_singular(3 * torch.eye(size)).value == pytest.approx(3)


def test_a_failed_check_takes_the_exact_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = gaussian(40, 30, seed=0)
    wanted = top_singular(matrix).value
    monkeypatch.setattr(singular, "EXACT_UP_TO", 1)
    calls = []
    monkeypatch.setattr(singular, "_exact", lambda each, exact=singular._exact: calls.append(1) or exact(each))
    assert top_singular(matrix).value == pytest.approx(wanted)
    assert not calls
    monkeypatch.setattr(singular, "TOLERANCE", 0.0)
    assert top_singular(matrix).value == pytest.approx(wanted, rel=1e-12)
    assert calls


@given(rows=sizes, columns=sizes)
def test_zeros(rows: int, columns: int) -> None:
    top = top_singular(torch.zeros(rows, columns))
    assert (top.value, frobenius_norm(torch.zeros(rows, columns))) == (0, 0)
    assert (float(top.left.norm()), float(top.right.norm())) == (1, 1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 9), (8, 8), (8, 64), (16, 48), (48, 48), (48, 144), (200, 200)])
def test_the_closed_form_for_noise(rows: int, columns: int) -> None:
    noise = gaussian(400, rows, columns, seed=0)
    shares = torch.linalg.svdvals(noise)[:, 0] / noise.flatten(1).norm(dim=1)
    assert expected_noise_share(rows, columns) == pytest.approx(float(shares.mean()), rel=0.01)


@given(rows=st.integers(1, 5000), columns=st.integers(1, 5000))
def test_the_closed_form_is_a_share(rows: int, columns: int) -> None:
    share = expected_noise_share(rows, columns)
    assert 1 / math.sqrt(min(rows, columns)) * 0.95 <= share <= 1
    assert share == expected_noise_share(columns, rows)
    if min(rows, columns) > 1000:
        assert share == pytest.approx(1 / math.sqrt(rows) + 1 / math.sqrt(columns), rel=0.01)
