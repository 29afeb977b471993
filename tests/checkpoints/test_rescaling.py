"""The parts of an update that rescale columns and singular directions, against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlcircuits.checkpoints import rescaling as module
from rlcircuits.checkpoints.rescaling import column_rescaling, spectral_rescaling

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**31)


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(weight: Tensor, update: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    return (left * ((left.T @ update) * right).sum(-1)) @ right


def close(found: Tensor, wanted: Tensor, size: float) -> bool:
    return float((found - wanted).abs().max()) <= 1e-5 * size


@given(shapes, seeds)
def test_it_is_the_part_within_the_singular_directions(shape: tuple[int, int], seed: int) -> None:
    weight, update = random(shape, seed), random(shape, seed + 1)
    found = spectral_rescaling(weight, update)
    assert (found.dtype, found.shape) == (torch.float32, shape)
    assert close(found, by_definition(weight, update), float(update.norm()))
    # What is left is orthogonal to it, and has no such part.
    rest = update - found
    assert abs(float((found * rest).sum())) <= 1e-4 * float(update.norm()) ** 2
    assert close(spectral_rescaling(weight, rest), torch.zeros(()), float(update.norm()))


@given(shapes, seeds, st.floats(0.0, 3.0), st.floats(-1.0, 2.0))
def test_a_sharpened_matrix_is_this_part_alone(shape: tuple[int, int], seed: int, power: float, factor: float) -> None:
    weight = random(shape, seed)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    update = factor * (left * values.pow(power)) @ right - weight
    assert close(spectral_rescaling(weight, update), update, float(update.norm() + weight.norm()))


@given(shapes, seeds)
def test_what_rescales_columns_is_each_columns_component_along_itself(shape: tuple[int, int], seed: int) -> None:
    weight, update, factors = random(shape, seed), random(shape, seed + 1), random((shape[1],), seed + 2)
    columns = zip(weight.T, update.T, strict=True)
    wanted = torch.stack([(own @ moved) / (own @ own) * own for own, moved in columns], 1)
    assert close(column_rescaling(weight, update), wanted, float(update.norm()))
    scaled = weight * factors
    assert close(column_rescaling(weight, scaled), scaled, float(scaled.norm()))
    stacked = column_rescaling(torch.stack([weight, scaled]), torch.stack([update, scaled]))
    assert close(stacked, torch.stack([wanted, scaled]), float(update.norm() + scaled.norm()))


@given(shapes, seeds)
def test_it_does_not_depend_on_how_a_matrix_is_laid_out(shape: tuple[int, int], seed: int) -> None:
    weight, update = random((3, *shape), seed), random((3, *shape), seed + 1)
    found = spectral_rescaling(weight, update)
    size = float(update.norm())
    assert close(spectral_rescaling(weight.mT, update.mT).mT, found, size)
    assert all(close(spectral_rescaling(weight[i], update[i]), found[i], size) for i in range(3))


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_a_large_matrix_is_read_in_parts(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    weight, update = random(shape, 0), random(shape, 1)
    monkeypatch.setattr(module, "_CHUNK", 8)
    assert close(spectral_rescaling(weight, update), by_definition(weight, update), 1.0)


def test_vectors_and_zeros_have_no_such_part() -> None:
    for weight in (torch.ones(5), torch.tensor(2.0), torch.zeros(4, 3)):
        assert not spectral_rescaling(weight, torch.ones_like(weight)).any()
        assert not column_rescaling(weight, torch.ones_like(weight)).any()
    # A direction that the matrix does not have is not rescaled.
    weight = torch.diag(torch.tensor([2.0, 1.0, 0.0]))
    assert torch.equal(
        spectral_rescaling(weight, torch.eye(3)).round(decimals=6), torch.diag(torch.tensor([1.0, 1, 0]))
    )
