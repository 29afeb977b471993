"""Gaussian noise of a given norm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlcircuits.checkpoints.gaussian_noise import add_noise

seeds = st.integers(0, 2**31)


@given(seeds)
@settings(max_examples=5)
def test_rounding_does_not_swallow_the_noise(seed: int) -> None:
    # Far below bfloat16's resolution of most weights: most of it is rounded away, unless it is drawn larger.
    norm, generator = 0.02, torch.Generator().manual_seed(seed)
    model = nn.Linear(60, 50, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(50, 60, generator=generator))
    model.bfloat16()
    origin = model.weight.detach().float()
    noise = torch.randn(50, 60, generator=generator)
    swallowed = (origin + noise * norm / noise.norm()).bfloat16().float() - origin
    assert float(swallowed.norm()) < 0.8 * norm
    add_noise(model, {"weight": norm}, seed)
    assert model.weight.dtype == torch.bfloat16
    # A tensor this small moves in steps.
    assert float((model.weight.detach().float() - origin).norm()) == pytest.approx(norm, rel=0.05)


def test_the_noise_is_gaussian() -> None:
    model = nn.Linear(400, 400, bias=False)
    origin = model.weight.detach().clone()
    add_noise(model, {"weight": 3.0}, draw=0)
    noise = ((model.weight - origin) / 3.0 * 400).flatten().detach()
    assert abs(float(noise.mean())) < 5 / 400
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.1)


def test_a_draw_depends_on_its_number_and_the_tensors_name_only() -> None:
    class Net(nn.Module):
        def __init__(self, names: str) -> None:
            super().__init__()
            for name in names:
                setattr(self, name, nn.Parameter(torch.zeros(5, 4)))

    one, other, another = Net("ab"), Net("bca"), Net("ab")
    for model, draw in ((one, 1), (other, 1), (another, 2)):
        add_noise(model, dict.fromkeys("abc", 2.0), draw)
    for name in "ab":
        assert torch.equal(getattr(one, name), getattr(other, name))
        assert not torch.equal(getattr(one, name), getattr(another, name))
    assert not torch.equal(one.a, one.b)
