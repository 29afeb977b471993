"""The attention's softmax at a higher temperature in the backward: the rule ``softmax_temperature``.

With S the attention's scores [..., queries, keys], A = softmax(S) and g = ∂ℓ/∂A, the plain gradient is

    ∂ℓ/∂S = A ⊙ (g − ⟨g, A⟩),

with the product summed over keys. A saturated softmax gives next to none of it. The rule puts A_T = softmax(S/T) in the
place of A here, with T = 2, and changes nothing else: not the forward, and not ∂ℓ/∂v, which keeps A (GIM, arXiv
2505.17630; as its code, without the factor 1/T that the gradient of softmax(S/T) has).

The softmax is found where it runs, whichever module calls it. A torch function mode, which is of this thread only and
holds while an attention's forward runs, takes the place of two functions:

- ``scaled_dot_product_attention``, whose softmax cannot be reached. The attention runs twice: once with q and k
  detached, for the output and the gradient of v, and once with q/T and v detached. T times the gradient of the second
  one is the rule's gradient of q and k. Neither builds a matrix of queries × keys.
- ``softmax`` itself, where an attention is written out (``eager``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rlcircuits.common.errors import RLCircuitsError

TEMPERATURE = 2.0
"""T in the backward."""

_SOFTMAXES = (F.softmax, torch.softmax, Tensor.softmax)


def heated(attention: nn.Module) -> Callable[..., Any]:
    """Return the attention's forward with the softmax's backward at :data:`TEMPERATURE`.

    Raises:
        RLCircuitsError: when it is called, if the attention computes not one softmax but none or several.
    """
    own = attention.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return own(*args, **kwargs)
        with _Heated() as mode:
            output = own(*args, **kwargs)
        if mode.count != 1:
            raise RLCircuitsError(
                f"{type(attention).__name__} computes {mode.count} softmaxes that torch shows, and the rule "
                "softmax_temperature needs one; leave the rule out, or load the model with attn_implementation='eager'"
            )
        return output

    return forward


class _Heated(TorchFunctionMode):
    """Heats every softmax that runs in the context, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.count += 1
            return _attend(*args, **kwargs)
        if func in _SOFTMAXES:
            self.count += 1
            return _softmax(func, *args, **kwargs)
        return func(*args, **kwargs)


def _attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    plain = F.scaled_dot_product_attention(query.detach(), key.detach(), value, *args, **kwargs)
    hot = F.scaled_dot_product_attention(query / TEMPERATURE, key, value.detach(), *args, **kwargs)
    return _PlainForward.apply(plain, hot)  # type: ignore[no-any-return, no-untyped-call]


def _softmax(func: Any, scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    dim = kwargs.get("dim", args[0] if args else -1)
    weights = func(scores.detach(), *args, **kwargs)
    return _HotBackward.apply(scores, weights, dim)  # type: ignore[no-any-return, no-untyped-call]


class _PlainForward(torch.autograd.Function):
    """(plain, hot) → plain; the backward goes to both, and to ``hot`` times the temperature."""

    @staticmethod
    def forward(ctx: Any, plain: Tensor, hot: Tensor) -> Tensor:
        return plain.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return grad, grad * TEMPERATURE


class _HotBackward(torch.autograd.Function):
    """(scores, softmax of the scores) → the softmax, with the backward of a hotter one."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weights: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.dim = dim
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (scores,) = ctx.saved_tensors
        hot = torch.softmax(scores.to(grad.dtype) / TEMPERATURE, ctx.dim)
        grad = hot * (grad - (grad * hot).sum(ctx.dim, keepdim=True))
        return grad.to(scores.dtype), None, None
