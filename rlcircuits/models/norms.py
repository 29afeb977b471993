"""The Jacobian of a normalisation layer, in closed form where the layer is a known one.

A reader sits before its norm, so every reader's gradient passes through one Jacobian-transpose
product. Recomputing it by autograd for q, k and v apart costs three norms; the closed forms of
RMSNorm and LayerNorm cost a few passes over the tensor. Which formula a module follows is not
guessed from its class name: each candidate is compared with the module's own output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor, nn

from rlcircuits.common.devices import can_use_triton

_FORMULAS: tuple[Literal["rms", "layer"], ...] = ("rms", "layer")
Vjp = Callable[[Tensor], Tensor]
_PROBE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Factors:
    """A norm's Jacobian-transpose product in factors: g → a − (mean a·unit) unit with a = scale · through(g).

    scale: [..., 1]. weight: [width] or None for 1. centred: whether the norm takes the mean off. unit: the normalised
    stream, [..., width]. Many gradients that meet one norm need no pass of their own for a scale per position and
    what is the same at all positions: each can be applied where it is small.
    """

    scale: Tensor
    weight: Tensor | None
    centred: bool
    unit: Tensor
    rounding: Tensor | None = None
    """The mean square that ``unit`` had over that which rounding left it, [...]; None where it was not rounded."""

    def through(self, rows: Tensor) -> Tensor:
        """The part that is the same at all positions, of ``rows`` [..., width]; in the scale's dtype."""
        rows = rows.to(self.scale.dtype)
        if self.weight is not None:
            rows = rows * self.weight
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows


@dataclass(frozen=True)
class NormVJP:
    """A norm's Jacobian at one stream.

    vjp: from ∂ℓ/∂y [..., width] to ∂ℓ/∂x of the same shape, of x's dtype. factored: makes the same in factors,
    None for a norm whose formula is not known.
    """

    vjp: Vjp
    factored: Callable[[], Factors] | None = None

    @cached_property
    def factors(self) -> Factors | None:
        """The same in factors, made when they are first asked for."""
        return None if self.factored is None else self.factored()


@dataclass(frozen=True)
class Norm:
    """A norm module and the formula its output was seen to follow.

    ``rms``: y = (offset + weight) · x / √(mean x² + eps), where Gemma's offset is 1 and others' 0;
    ``layer``: the same of x − mean x, plus a bias; ``other``: anything else, differentiated by
    autograd. The weight is read when it is used, so a model may be trained on in between.
    """

    module: nn.Module
    kind: Literal["rms", "layer", "other"]
    offset: float = 0.0
    eps: float = 0.0

    def _weight(self, dtype: torch.dtype) -> Tensor | None:
        weight: Tensor | None = getattr(self.module, "weight", None)
        if weight is None:
            return None
        weight = weight.detach().to(dtype)
        return weight + self.offset if self.offset else weight

    def vjp_at(self, x: Tensor) -> NormVJP:
        """The norm's Jacobian at ``x`` [..., width], computed in float32 (float64 for float64 inputs)."""
        if self.kind == "other":
            return NormVJP(lambda grad: _vjp_by_autograd(self.module, x, grad))
        work = _working_dtype(x.dtype)
        weight = self._weight(work)
        layer = self.kind == "layer"

        def factored(dtype: torch.dtype = work) -> Factors:
            centred, scale = self._centre_and_scale(x.to(work))
            unit = centred * scale
            rounded = unit.to(dtype)
            rounding = None
            if dtype != work:
                left = rounded.to(work).square().mean(-1).clamp_min(torch.finfo(work).tiny)
                rounding = unit.square().mean(-1) / left
            return Factors(scale, weight, layer, rounded, rounding)

        if can_use_triton(x):
            from rlcircuits.models.triton_norm import norm_vjp

            by_kernel = partial(norm_vjp, x, weight=weight, eps=self.eps, centred=layer)
            return NormVJP(by_kernel, partial(factored, x.dtype))
        factors = factored()
        unit, scale = factors.unit, factors.scale

        def vjp(grad: Tensor) -> Tensor:
            inner = factors.through(grad)
            mean_dot = (inner * unit).mean(-1, keepdim=True)
            return torch.addcmul(inner, unit, mean_dot, value=-1).mul_(scale).to(x.dtype)

        return NormVJP(vjp, lambda: factors)

    def scale_part(self, whole: Tensor, part: Tensor) -> Tensor:
        """What ``part`` contributes to norm(whole), the scale held at that of the whole.

        Both [..., width]; shares of parts that sum to the whole sum to norm(whole) without its bias.
        """
        if self.kind == "other":
            raise TypeError(
                f"{type(self.module).__name__} is no RMSNorm or LayerNorm: it has no scale that its parts share"
            )
        work = _working_dtype(whole.dtype)
        _, scale = self._centre_and_scale(whole.to(work))
        centred = part.to(work)
        if self.kind == "layer":
            centred = centred - centred.mean(-1, keepdim=True)
        shared = centred * scale
        weight = self._weight(work)
        return (shared if weight is None else shared * weight).to(part.dtype)

    def _centre_and_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        centred = x - x.mean(-1, keepdim=True) if self.kind == "layer" else x
        variance = torch.linalg.vecdot(centred, centred)[..., None] / x.shape[-1]
        return centred, torch.rsqrt(variance + self.eps)


def recognise(module: nn.Module, width: int) -> Norm:
    """Find which formula ``module`` follows, by comparing each with the module on a random input.

    width: the size of the last dimension the module normalises.
    """
    parameter = getattr(module, "weight", None)
    eps = epsilon_of(module)
    if eps is None or (parameter is not None and parameter.shape != (width,)):
        return Norm(module, "other")
    like = parameter if parameter is not None else torch.empty(0)
    generator = torch.Generator().manual_seed(0)
    probe = (torch.randn(4, width, generator=generator) + 0.5).to(device=like.device, dtype=like.dtype)
    with torch.no_grad():
        wanted = module(probe).double()
        bias = getattr(module, "bias", None)
        if bias is not None:
            wanted = wanted - bias.double()
        largest = float(wanted.abs().max())
        candidates = [Norm(module, kind, offset, eps) for kind in _FORMULAS for offset in (0.0, 1.0)]
        errors = [float((norm.scale_part(probe.double(), probe.double()) - wanted).abs().max()) for norm in candidates]
    # The nearest, where there is a nearest: a weight of zero hides what it multiplies.
    if largest > 0 and min(errors) <= _PROBE_TOLERANCE[like.dtype] * largest:
        return candidates[errors.index(min(errors))]
    return Norm(module, "other")


def epsilon_of(module: nn.Module) -> float | None:
    """The epsilon a norm module carries under one of its usual names, or None."""
    return next(
        (float(getattr(module, n)) for n in ("variance_epsilon", "eps") if getattr(module, n, None) is not None), None
    )


def _vjp_by_autograd(module: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().expand_as(grad).requires_grad_(True)
        # Past the hooks, which are the capture's.
        (result,) = torch.autograd.grad(module.forward(leaf), leaf, grad)
    return result


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
