"""Gaussian noise of a given norm on each parameter of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlcircuits.checkpoints.parameters import seeded_generator

NORM_TOLERANCE = 1e-3
"""Largest relative difference between the norm of the noise, after rounding, and the norm asked for."""

_BISECTIONS = 50


@torch.no_grad()
def add_noise(model: nn.Module, norms: Mapping[str, float], draw: int) -> None:
    """Add Gaussian noise of the given norm to each parameter of a model, in place.

    The noise is drawn in float32 on the CPU, seeded by draw and parameter name, so that it depends neither on the
    device nor on the order of the parameters.

    Args:
        model: the model to change.
        norms: the norm of the noise by parameter name; a parameter of norm 0 stays unchanged.
        draw: the seed.
    """
    for name, parameter in model.named_parameters():
        norm = norms[name]
        if norm > 0:
            noise = torch.randn(parameter.shape, generator=seeded_generator(f"{draw}\n{name}"), dtype=torch.float32)
            noise *= norm / _norm(noise)
            parameter.copy_(_moved(parameter, noise.to(parameter.device), norm))


def _moved(parameter: Tensor, noise: Tensor, norm: float) -> Tensor:
    """Return parameter + noise in the parameter's dtype, with the noise scaled to ``norm`` *after* rounding.

    In bfloat16 rounding removes most of a small update, of the real one as of the noise, so the norms are compared
    after it. The norm grows with the scale, so bisection finds the scale; in float32 the first guess is right.
    """
    exact = torch.promote_types(parameter.dtype, torch.float32)
    origin, noise = parameter.to(exact), noise.to(exact)

    def at(scale: float) -> tuple[Tensor, float]:
        moved = (origin + scale * noise).to(parameter.dtype)
        return moved, _norm(moved.to(exact) - origin)

    low, high, scale = 0.0, math.inf, 1.0
    moved, found = at(scale)
    for _ in range(_BISECTIONS):
        if abs(found - norm) <= NORM_TOLERANCE * norm:
            break
        if found < norm:
            low = scale
        else:
            high = scale
        scale = 2 * scale if math.isinf(high) else (low + high) / 2
        moved, found = at(scale)
    return moved


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
