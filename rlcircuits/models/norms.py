"""Norms and their vector-Jacobian products (VJPs), in closed form for RMSNorm and LayerNorm.

Each reader reads the stream through a norm, so each reader's gradient is a VJP of the norm. Autograd would run one
norm a reader. The closed form costs a few passes over the gradient, and what readers share is computed once.

1. Recognition (:func:`recognise`). Class names do not tell a norm's formula, so each candidate formula is compared
   with the module's own output on a random input. With x [..., width] and every mean over the width,

       y = w ⊙ d + b,   d = scale · P(x),   scale = 1/√(mean P(x)² + eps),   w = offset + weight.

   RMSNorm: P(x) = x. LayerNorm: P(x) = x − mean x. Gemma's offset is 1, others' is 0.

2. VJP (:meth:`Norm.vjp_at`). For g = ∂ℓ/∂y,

       ∂ℓ/∂x = scale · (P(w ⊙ g) − mean(P(w ⊙ g) · d) d).

   A norm of another formula is differentiated by autograd.

3. Factors (:class:`Factors`). Where many gradients g = f W pass through one norm (a head's features f times its rows W
   of a projection), the same VJP is

       ∂ℓ/∂x = a − mean(a·d) d,   a = scale · P(w ⊙ g) = (scale · f) P(w ⊙ W),

   with P and w applied to each row of W. The scale then multiplies f, and P and w act on W. Both are much smaller than
   g, so that g needs no pass for either.

4. Parts (:meth:`Norm.scale_part`). With the scale held at that of the whole input, the norm is linear. Each head's
   part of an attention output goes through a post-norm in this way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor, nn

from rlcircuits.common.devices import can_use_triton

Vjp = Callable[[Tensor], Tensor]

_FORMULAS: tuple[Literal["rms", "layer"], ...] = ("rms", "layer")
_PROBE_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Factors:
    """The factors of a norm's VJP at one stream x [..., width]: ∂ℓ/∂x = a − mean(a·d) d with a = scale · through(g).

    Args:
        scale: 1/√(mean P(x)² + eps), [..., 1].
        weight: w, [width], or None for 1.
        centred: Whether P(x) is x − mean x (LayerNorm) or x (RMSNorm).
        direction: d = scale · P(x), [..., width]: the normalised stream. Its mean square is 1, but for eps, so that
            mean(a·d) is the component of a along d. None if the VJP removes nothing (``Norm.scale_detached``).
        rounding_correction: mean d² before ``direction`` was rounded to a narrower dtype, divided by mean d² after,
            [...]. None if ``direction`` was not rounded. It multiplies mean(a·d): rounding changes mean d², most where
            one feature dominates, and would otherwise leave a part of a along d.
    """

    scale: Tensor
    weight: Tensor | None
    centred: bool
    direction: Tensor | None
    rounding_correction: Tensor | None = None

    def through(self, rows: Tensor) -> Tensor:
        """Return P(w ⊙ rows) of rows [..., width], in the scale's dtype. It is the same at all positions."""
        rows = rows.to(self.scale.dtype)
        if self.weight is not None:
            rows = rows * self.weight
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows


@dataclass(frozen=True)
class NormVJP:
    """The VJP of a norm at one stream x.

    Args:
        vjp: From ∂ℓ/∂y [..., width] to ∂ℓ/∂x of the same shape, in the dtype of x.
        make_factors: Returns the factors of the VJP. None if the norm's formula is not known.
    """

    vjp: Vjp
    make_factors: Callable[[], Factors] | None = None

    def of_several(self, grads: Tensor) -> Tensor:
        """Return ∂ℓ/∂x of several gradients at this x: [..., *x.shape] → the same shape and dtype."""
        factors = self.factors
        if factors is None:
            return self.vjp(grads)
        inner = factors.through(grads)
        if factors.direction is not None:
            along = (inner * factors.direction).mean(-1, keepdim=True)
            if factors.rounding_correction is not None:
                along = along * factors.rounding_correction[..., None]
            inner = inner - along * factors.direction
        return (inner * factors.scale).to(grads.dtype)

    @cached_property
    def factors(self) -> Factors | None:
        """The factors of the VJP, computed at the first access. None if the norm's formula is not known."""
        return None if self.make_factors is None else self.make_factors()


@dataclass(frozen=True)
class Norm:
    """A norm module and the formula that its output follows.

    Args:
        module: The norm. Its weight is read at each use, so the model may be trained in between.
        kind: ``rms`` or ``layer``, the formulas of the module docstring; or ``other``, differentiated by autograd.
        offset: What is added to the module's weight.
        eps: What is added to the mean square.
        scale_detached: Whether the VJP holds the scale constant, so that nothing is removed along ``direction``.
    """

    module: nn.Module
    kind: Literal["rms", "layer", "other"]
    offset: float = 0.0
    eps: float = 0.0
    scale_detached: bool = False

    def vjp_at(self, x: Tensor) -> NormVJP:
        """Return the norm's VJP at ``x`` [..., width], computed in float32 (float64 for a float64 x)."""
        if self.scale_detached:
            return self._linear_vjp_at(x)
        if self.kind == "other":
            return NormVJP(lambda grad: _vjp_by_autograd(self.module, x, grad))
        work = _working_dtype(x.dtype)
        weight = self._weight(work)
        if can_use_triton(x):
            from rlcircuits.models.triton_norm import norm_vjp

            by_kernel = partial(norm_vjp, x, weight=weight, eps=self.eps, centred=self.kind == "layer")
            return NormVJP(by_kernel, lambda: self._factors_at(x, weight, x.dtype))
        factors = self._factors_at(x, weight, work)
        direction, scale = factors.direction, factors.scale
        assert direction is not None

        def vjp(grad: Tensor) -> Tensor:
            inner = factors.through(grad)
            mean_dot = (inner * direction).mean(-1, keepdim=True)
            return torch.addcmul(inner, direction, mean_dot, value=-1).mul_(scale).to(x.dtype)

        return NormVJP(vjp, lambda: factors)

    def _linear_vjp_at(self, x: Tensor) -> NormVJP:
        """Return the VJP with the scale held at that of ``x``: ∂ℓ/∂x = scale · through(∂ℓ/∂y)."""
        work = _working_dtype(x.dtype)
        _, scale = self._centre_and_scale(x.to(work))
        factors = Factors(scale, self._weight(work), self.kind == "layer", None)
        return NormVJP(lambda grad: factors.through(grad).mul(scale).to(x.dtype), lambda: factors)

    def scale_part(self, whole: Tensor, part: Tensor) -> Tensor:
        """Return what ``part`` contributes to norm(whole), with the scale held at that of ``whole``.

        Args:
            whole: The norm's input, [..., width].
            part: One summand of it, [..., width].

        Returns:
            w ⊙ P(part) · scale(whole), [..., width] in the dtype of ``part``. For parts that sum to ``whole``, the
            results sum to norm(whole) without its bias.

        Raises:
            TypeError: for a norm of kind ``other``.
        """
        if self.kind == "other":
            raise TypeError(
                f"{type(self.module).__name__} is neither RMSNorm nor LayerNorm, so that its output is not a sum over "
                f"parts of its input"
            )
        work = _working_dtype(whole.dtype)
        _, scale = self._centre_and_scale(whole.to(work))
        centred = part.to(work)
        if self.kind == "layer":
            centred = centred - centred.mean(-1, keepdim=True)
        scaled = centred * scale
        weight = self._weight(work)
        return (scaled if weight is None else scaled * weight).to(part.dtype)

    def _weight(self, dtype: torch.dtype) -> Tensor | None:
        weight: Tensor | None = getattr(self.module, "weight", None)
        if weight is None:
            return None
        weight = weight.detach().to(dtype)
        return weight + self.offset if self.offset else weight

    def _factors_at(self, x: Tensor, weight: Tensor | None, direction_dtype: torch.dtype) -> Factors:
        work = _working_dtype(x.dtype)
        centred, scale = self._centre_and_scale(x.to(work))
        exact = centred * scale
        direction = exact.to(direction_dtype)
        correction = None
        if direction_dtype != work:
            rounded_square = direction.to(work).square().mean(-1).clamp_min(torch.finfo(work).tiny)
            correction = exact.square().mean(-1) / rounded_square
        return Factors(scale, weight, self.kind == "layer", direction, correction)

    def _centre_and_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return P(x) [..., width] and the scale [..., 1]."""
        centred = x - x.mean(-1, keepdim=True) if self.kind == "layer" else x
        variance = torch.linalg.vecdot(centred, centred)[..., None] / x.shape[-1]
        return centred, torch.rsqrt(variance + self.eps)


def recognise(module: nn.Module, width: int) -> Norm:
    """Return the norm of ``module`` with the formula that its output follows on a random input.

    Args:
        module: The norm module.
        width: The size of the last dimension, which the module normalises.
    """
    parameter = getattr(module, "weight", None)
    eps = epsilon_of(module)
    if eps is None or (parameter is not None and parameter.shape[-1:] != (width,)):
        return Norm(module, "other")
    like = parameter if parameter is not None else torch.empty(0)
    generator = torch.Generator().manual_seed(0)
    shape = (width,) if parameter is None else parameter.shape  # a norm of heads may have a weight for each
    probe = (torch.randn(4, *shape, generator=generator) + 0.5).to(device=like.device, dtype=like.dtype)
    with torch.no_grad():
        wanted = module.forward(probe).double()  # rather than a call, which would run the capture's hooks
        bias = getattr(module, "bias", None)
        if bias is not None:
            wanted = wanted - bias.double()
        largest = float(wanted.abs().max())
        candidates = [Norm(module, kind, offset, eps) for kind in _FORMULAS for offset in (0.0, 1.0)]
        errors = [float((norm.scale_part(probe.double(), probe.double()) - wanted).abs().max()) for norm in candidates]
    # The nearest candidate. If the weight is zero, all candidates agree and none can be told from another.
    if largest > 0 and min(errors) <= _PROBE_TOLERANCE[like.dtype] * largest:
        return candidates[errors.index(min(errors))]
    return Norm(module, "other")


def epsilon_of(module: nn.Module) -> float | None:
    """Return the epsilon of a norm module, which it holds under one of two usual names, or None."""
    return next(
        (float(getattr(module, n)) for n in ("variance_epsilon", "eps") if getattr(module, n, None) is not None), None
    )


def _vjp_by_autograd(module: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().expand_as(grad).requires_grad_(True)
        # forward() rather than a call, which would run the capture's own hooks.
        (result,) = torch.autograd.grad(module.forward(leaf), leaf, grad)
    return result


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
