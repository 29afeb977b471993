"""The rules of the backward, for `oracle`: each is written where the forward computes what it concerns.

`with active("gim"):` makes every function below follow the rules of these names; outside they change nothing. Their
forward is that of the model in each case. Only plain autograd differentiates, on `detach`, or on the Jacobian written
out as a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_SETS = {
    "relp": ("norm_scale", "activation", "gate_half", "attention"),
    "gim": ("norm_scale", "gate_half", "softmax_temperature", "qkv_shares"),
}
_rules: set[str] = set()


@contextmanager
def active(names: Iterable[str]) -> Iterator[None]:
    """Follow the rules of these names within the context."""
    before = set(_rules)
    for name in names:
        _rules.update(_SETS.get(name, (name,)))
    try:
        yield
    finally:
        _rules.clear()
        _rules.update(before)


def scale_of_norm(scale: Tensor) -> Tensor:
    """A norm's scale, constant under `norm_scale`."""
    return scale.detach() if "norm_scale" in _rules else scale


def activated(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An activation of x, times a constant under `activation`."""
    return x * (function(x) / x).detach() if "activation" in _rules else function(x)


def factor(x: Tensor) -> Tensor:
    """One of the two factors of a gated MLP; half of it is constant under `gate_half`."""
    return (x + x.detach()) / 2 if "gate_half" in _rules else x


def head_input(x: Tensor, kind: str) -> Tensor:
    """What q, k or v is computed from; three quarters or a half of it is constant under `qkv_shares`."""
    if "qkv_shares" not in _rules:
        return x
    share = {"q": 1 / 4, "k": 1 / 4, "v": 1 / 2}[kind]
    return share * x + (1 - share) * x.detach()


def attention_weights(scores: Tensor) -> Tensor:
    """The softmax over keys: constant under `attention`, of a hotter Jacobian under `softmax_temperature`."""
    if "attention" in _rules:
        return scores.softmax(-1).detach()
    hotter: Tensor = _Hotter.apply(scores) if "softmax_temperature" in _rules else scores.softmax(-1)
    return hotter


class _Hotter(torch.autograd.Function):
    """softmax(S), with the Jacobian diag(p) − p pᵀ at p = softmax(S / 2)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        return scores.softmax(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        p = (ctx.saved_tensors[0] / 2).softmax(-1)
        jacobian = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
        return (jacobian @ grad[..., None])[..., 0]
