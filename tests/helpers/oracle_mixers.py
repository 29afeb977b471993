"""Layers that mix tokens without attention, for `oracle`: the recurrences, one token after another.

The models compute the same in chunks, by other algebra. What is taken from a model is what `oracle_families` takes:
parameters, epsilons, and the numbers of its config.

    Mamba 2 (arXiv 2405.21060)             h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t',   y_t = h_t C_t + D x_t
    gated delta net (arXiv 2412.06464)     S_t = a_t S_(t-1) + b_t k_t (v_t - (a_t S_(t-1))' k_t)',   y_t = S_t' q_t
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_L2_EPS = 1e-6


@dataclass(frozen=True)
class MambaSizes:
    """The numbers of a Mamba 2 layer, which its config calls by names that differ from family to family.

    Args:
        heads: heads of the state.
        groups: groups of heads that share B and C, and over which the gated norm is taken.
        state: features of B and C.
        step_limits: smallest and largest step dt.
        in_multiplier: what the layer's input is multiplied by.
        multipliers: what the parts z, x, B, C and dt of the input projection are multiplied by.
        has_norm: whether a norm follows the gate.
    """

    heads: int
    groups: int
    state: int
    step_limits: tuple[float, float]
    in_multiplier: float = 1.0
    multipliers: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    has_norm: bool = True


def mamba(module: Any, sizes: MambaSizes, normed: Tensor) -> Tensor:
    """The layer's output [T, D] for its input [T, D]."""
    inner = module.out_proj.weight.shape[1]
    shared = sizes.groups * sizes.state
    projected = F.linear(normed * sizes.in_multiplier, module.in_proj.weight, module.in_proj.bias)
    parts = projected.split([inner, inner, shared, shared, sizes.heads], -1)
    z, *read, step = (part * multiplier for part, multiplier in zip(parts, sizes.multipliers, strict=True))
    x, b, c = _convolved(torch.cat(read, -1), module.conv1d).split([inner, shared, shared], -1)
    step = F.softplus(step + module.dt_bias).clamp(*sizes.step_limits)  # [T, H]
    x = x.view(len(x), sizes.heads, -1)
    b, c = (each.view(len(each), sizes.groups, -1).repeat_interleave(sizes.heads // sizes.groups, 1) for each in (b, c))
    decay = (-step * module.A_log.exp()).exp()
    state = x.new_zeros(sizes.heads, x.shape[-1], sizes.state)
    outputs = []
    for t in range(len(x)):
        state = decay[t, :, None, None] * state + step[t, :, None, None] * x[t, :, :, None] * b[t, :, None]
        outputs.append(torch.einsum("hpn,hn->hp", state, c[t]) + module.D[:, None] * x[t])
    y = torch.stack(outputs).flatten(1) * F.silu(z)
    if sizes.has_norm:
        grouped = y.unflatten(-1, (sizes.groups, -1))
        scale = torch.rsqrt(grouped.pow(2).mean(-1, keepdim=True) + module.norm.variance_epsilon)
        y = (grouped * scale).flatten(-2) * module.norm.weight
    return F.linear(y, module.out_proj.weight, module.out_proj.bias)


@dataclass(frozen=True)
class DeltaInputs:
    """What a gated delta net projects from its input: q, k [T, K, k], v, z [T, V, v], b, a [T, V].

    K heads of keys and V of values; consecutive V / K value heads share a key head.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    z: Tensor
    b: Tensor
    a: Tensor


def delta_inputs(module: Any, config: Any, normed: Tensor) -> DeltaInputs:
    """The parts of the input projections, which Qwen3-Next keeps by key head and Qwen 3.5 apart."""
    keys, values = config.linear_num_key_heads, config.linear_num_value_heads
    key, value, length = config.linear_key_head_dim, config.linear_value_head_dim, len(normed)
    if hasattr(module, "in_proj_qkv"):
        q, k, v = F.linear(normed, module.in_proj_qkv.weight).split([keys * key, keys * key, values * value], -1)
        z, b, a = (F.linear(normed, part.weight) for part in (module.in_proj_z, module.in_proj_b, module.in_proj_a))
    else:
        each = values // keys
        by_head = F.linear(normed, module.in_proj_qkvz.weight).view(length, keys, -1)
        q, k, v, z = by_head.split([key, key, each * value, each * value], -1)
        b, a = F.linear(normed, module.in_proj_ba.weight).view(length, keys, 2 * each).chunk(2, -1)
    shapes = ((keys, key), (keys, key), (values, value), (values, value), (values,), (values,))
    return DeltaInputs(*(part.reshape(length, *shape) for part, shape in zip((q, k, v, z, b, a), shapes, strict=True)))


def gated_delta_net(module: Any, config: Any, normed: Tensor) -> Tensor:
    """The layer's output [T, D] for its input [T, D]."""
    read = delta_inputs(module, config, normed)
    flat = torch.cat([part.flatten(1) for part in (read.q, read.k, read.v)], -1)
    sizes = [part[0].numel() for part in (read.q, read.k, read.v)]
    convolved = _convolved(flat, module.conv1d).split(sizes, -1)
    q, k, v = (part.view_as(like) for part, like in zip(convolved, (read.q, read.k, read.v), strict=True))
    copies = v.shape[1] // k.shape[1]
    q, k = (_unit(part).repeat_interleave(copies, 1) for part in (q, k))
    q = q * q.shape[-1] ** -0.5
    rate = read.b.sigmoid()
    decay = (-module.A_log.exp() * F.softplus(read.a + module.dt_bias)).exp()
    state = v.new_zeros(v.shape[1], k.shape[-1], v.shape[-1])
    outputs = []
    for t in range(len(v)):
        state = decay[t, :, None, None] * state
        correction = rate[t, :, None] * (v[t] - torch.einsum("hkv,hk->hv", state, k[t]))
        state = state + k[t, :, :, None] * correction[:, None]
        outputs.append(torch.einsum("hkv,hk->hv", state, q[t]))
    y = torch.stack(outputs)
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + module.norm.variance_epsilon) * module.norm.weight
    return F.linear((y * F.silu(read.z)).flatten(1), module.out_proj.weight)


def _convolved(x: Tensor, conv: Any) -> Tensor:
    """Each channel of x [T, C] convolved with its own weights over the last tokens, then SiLU."""
    width = conv.weight.shape[-1]
    padded = torch.cat([x.new_zeros(width - 1, x.shape[1]), x])
    total = sum(padded[j : j + len(x)] * conv.weight[:, 0, j] for j in range(width))
    return F.silu(total if conv.bias is None else total + conv.bias)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + _L2_EPS)
