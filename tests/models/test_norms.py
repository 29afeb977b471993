"""The norms' closed-form VJPs against autograd through the module itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from rlcircuits.models.norms import recognise

KINDS: dict[str, tuple[Any, str, float]] = {
    "LlamaRMSNorm": (lambda width: LlamaRMSNorm(width, 1e-5), "rms", 0.0),
    "Gemma2RMSNorm": (lambda width: Gemma2RMSNorm(width, 1e-5), "rms", 1.0),
    "torch RMSNorm": (lambda width: nn.RMSNorm(width, eps=1e-5), "rms", 0.0),
    "LayerNorm": (lambda width: nn.LayerNorm(width, 1e-5), "layer", 0.0),
    "LayerNorm, no weight": (lambda width: nn.LayerNorm(width, elementwise_affine=False), "layer", 0.0),
}


def scattered(make: Any, width: int) -> nn.Module:
    module: nn.Module = make(width)
    generator = torch.Generator().manual_seed(width)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(width, generator=generator))
    return module


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(width=st.integers(2, 40), seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_the_vjp_is_autograds(kind: str, width: int, seed: int, scale: float) -> None:
    make, formula, offset = KINDS[kind]
    module = scattered(make, width).double()
    norm = recognise(module, width)
    assert (norm.kind, norm.offset) == (formula, offset)
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(3, width, generator=generator, dtype=torch.float64)
    grad = torch.randn(2, 3, width, generator=generator, dtype=torch.float64)  # several readers at once
    leaf = x.expand_as(grad).clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(module(leaf), leaf, grad)
    # Hugging Face's norms compute in float32 inside.
    torch.testing.assert_close(norm.vjp_at(x).vjp(grad), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(width=st.integers(2, 40), seed=st.integers(0, 99))
def test_the_factors_make_up_the_vjp(kind: str, width: int, seed: int) -> None:
    module = scattered(KINDS[kind][0], width).double()
    generator = torch.Generator().manual_seed(seed)
    x, grad = torch.randn(2, 3, width, generator=generator, dtype=torch.float64)
    vjp = recognise(module, width).vjp_at(x)
    assert vjp.factors is not None
    whole = vjp.factors.scale * vjp.factors.through(grad)
    direction = vjp.factors.direction
    torch.testing.assert_close(whole - (whole * direction).mean(-1, keepdim=True) * direction, vjp.vjp(grad))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(width=st.integers(2, 40), seed=st.integers(0, 99))
def test_parts_sum_to_the_norm_without_its_bias(kind: str, width: int, seed: int) -> None:
    module = scattered(KINDS[kind][0], width).double()
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(4, 3, width, generator=generator, dtype=torch.float64)
    scaled = recognise(module, width).scale_part(parts.sum(0), parts)
    bias = getattr(module, "bias", None)
    wanted = module(parts.sum(0)) - (0 if bias is None else bias)
    torch.testing.assert_close(scaled.sum(0), wanted, rtol=1e-4, atol=1e-4)


def test_any_other_module_is_differentiated_by_autograd() -> None:
    class Odd(nn.Module):
        eps = 1e-5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh() / (1 + x.norm(dim=-1, keepdim=True))

    norm = recognise(Odd(), 6)
    assert norm.kind == "other"
    x, grad = torch.randn(2, 6), torch.randn(3, 2, 6)
    leaf = x.expand_as(grad).clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(Odd()(leaf), leaf, grad)
    torch.testing.assert_close(norm.vjp_at(x).vjp(grad), wanted)
    with pytest.raises(TypeError, match="not a sum over parts"):
        norm.scale_part(x, x)
