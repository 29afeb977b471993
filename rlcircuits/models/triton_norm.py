"""The VJP of a norm as one Triton kernel, which reads the stream and the gradient once.

The closed form is that of ``rlcircuits.models.norms``. In plain tensor operations it makes some ten passes over float32
copies of both. It runs once for each reader that is not a head, and once for each attention's summed gradient.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlcircuits.common.devices import on_device


def norm_vjp(x: Tensor, grad: Tensor, weight: Tensor | None, eps: float, *, centred: bool) -> Tensor:
    """Return ∂ℓ/∂x of y = weight ⊙ P(x) / √(mean P(x)² + eps) + a constant, computed in float32.

    Args:
        x: [..., width], any strides and floating dtype.
        grad: ∂ℓ/∂y, [..., width], any strides and floating dtype.
        weight: [width], or None for 1.
        eps: What is added to the mean square.
        centred: Whether P(x) is x − mean x (LayerNorm) or x (RMSNorm).

    Returns:
        ∂ℓ/∂x, in the shape and dtype of x.
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
    """Compute one position. x, grad, result: [positions, width]; weight: [width]."""
    start = tl.program_id(0).to(tl.int64) * width
    features = tl.arange(0, BLOCK)
    inside = features < width
    direction = tl.load(x + start + features, mask=inside, other=0.0).to(tl.float32)
    if CENTRED:
        direction = tl.where(inside, direction - tl.sum(direction) / width, 0.0)
    scale = tl.rsqrt(tl.sum(direction * direction) / width + eps)
    direction *= scale
    inner = tl.load(grad + start + features, mask=inside, other=0.0).to(tl.float32)
    if WEIGHTED:
        inner *= tl.load(weight + features, mask=inside, other=0.0).to(tl.float32)
    mean_dot = tl.sum(inner * direction) / width
    if CENTRED:
        inner -= tl.sum(inner) / width
    tl.store(result + start + features, (inner - direction * mean_dot) * scale, mask=inside)
