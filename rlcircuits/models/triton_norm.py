"""A norm's Jacobian-transpose product as one Triton kernel: the stream and the gradient are read once.

The same closed form as ``norms.Norm.vjp_at``, which in plain tensor operations passes over float32 copies of
both some ten times. The gradient of every reader that is no head goes through it, and each attention's sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlcircuits.common.devices import on_device


def norm_vjp(x: Tensor, grad: Tensor, weight: Tensor | None, eps: float, *, centred: bool) -> Tensor:
    """From ∂ℓ/∂y to ∂ℓ/∂x of y = weight · (x − mean x if ``centred``) / √(mean square + eps) + anything constant.

    x, grad: [..., width], of any strides and floating dtypes; computed in float32. weight: [width], or None for 1.
    Returns x's shape and dtype.
    """
    width = x.shape[-1]
    x, grad = x.contiguous(), grad.contiguous()
    result = torch.empty_like(x)
    block = triton.next_power_of_2(width)
    with on_device(x.device):
        _norm_vjp[(x.numel() // width,)](
            x,
            grad,
            grad if weight is None else weight.contiguous(),
            result,
            width,
            eps,
            CENTRED=centred,
            WEIGHTED=weight is not None,
            BLOCK=block,
            num_warps=min(16, max(1, block // 512)),
        )
    return result


@triton.jit  # type: ignore[untyped-decorator,misc]
def _norm_vjp(  # type: ignore[no-untyped-def]
    x,
    grad,
    weight,
    result,
    width,
    eps,
    CENTRED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One position. x, grad, result: [positions, width]; weight: [width]."""
    start = tl.program_id(0).to(tl.int64) * width
    features = tl.arange(0, BLOCK)
    inside = features < width
    unit = tl.load(x + start + features, mask=inside, other=0.0).to(tl.float32)
    if CENTRED:
        unit = tl.where(inside, unit - tl.sum(unit) / width, 0.0)
    scale = tl.rsqrt(tl.sum(unit * unit) / width + eps)
    unit *= scale
    inner = tl.load(grad + start + features, mask=inside, other=0.0).to(tl.float32)
    if WEIGHTED:
        inner *= tl.load(weight + features, mask=inside, other=0.0).to(tl.float32)
    mean_dot = tl.sum(inner * unit) / width
    if CENTRED:
        inner -= tl.sum(inner) / width
    tl.store(result + start + features, (inner - unit * mean_dot) * scale, mask=inside)
