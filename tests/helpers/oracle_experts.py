"""Mixtures of experts for `oracle`, written from the models' sources: every expert on every token, weighted.

An expert that the router does not choose for a token has the weight 0 there. The experts' sizes are E experts, T tokens
and D features of the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.oracle_families import Function, Routed, _gated, linear, plain_norm

Routing = Callable[[Any, Tensor], Tensor]
"""From a mixture and its input [T, D] to the weights [T, E]."""


def mixture(mlp: Any, family: str) -> Function:
    """The MLP of a layer, which is a mixture or, in some layers of some families, a dense one."""
    if (routed := routed_by_family(mlp, family)) is None:
        return lambda x: _dense(mlp, x)
    return lambda x: routed.shares(x).sum(0) + _shared(mlp, x)


def routed_by_family(mlp: Any, family: str) -> Routed | None:
    """The experts of a layer's MLP, or None for a dense one."""
    if not hasattr(mlp, "experts"):
        return None
    shares = {"gpt_oss": _gpt_oss, "llama4_text": _llama4}.get(family, _stacked)(mlp, family)
    return Routed(len(mlp.experts.down_proj), shares, hasattr(mlp, "shared_expert") or hasattr(mlp, "shared_experts"))


def _shared(mlp: Any, x: Tensor) -> Tensor:
    """What the experts that read every token write."""
    for name in ("shared_expert", "shared_experts"):
        if hasattr(mlp, name):
            return _dense(getattr(mlp, name), x)
    return torch.zeros_like(x)


def _dense(mlp: Any, x: Tensor) -> Tensor:
    activation = mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn
    return linear(mlp.down_proj, activation(linear(mlp.gate_proj, x)) * linear(mlp.up_proj, x))


def _chosen(scores: Tensor, count: int) -> Tensor:
    """1 at the `count` largest of the scores [T, E] of each token, and 0 elsewhere."""
    return torch.zeros_like(scores).scatter(-1, scores.topk(count).indices, 1.0)


def _softmax_then_choose(mlp: Any, x: Tensor) -> Tensor:
    probability = F.linear(x, mlp.gate.weight).softmax(-1)
    weight = probability * _chosen(probability, mlp.gate.top_k)
    return weight / weight.sum(-1, keepdim=True) if mlp.gate.norm_topk_prob else weight


def _softmax_then_choose_to_one(mlp: Any, x: Tensor) -> Tensor:
    """As before, but the weights of the chosen experts always sum to one (Qwen3-VL's)."""
    probability = F.linear(x, mlp.gate.weight).softmax(-1)
    weight = probability * _chosen(probability, mlp.gate.top_k)
    return weight / weight.sum(-1, keepdim=True)


def _choose_then_softmax(mlp: Any, x: Tensor) -> Tensor:
    score = F.linear(x, mlp.router.weight, getattr(mlp.router, "bias", None))
    return score.masked_fill(_chosen(score, mlp.router.top_k) == 0, float("-inf")).softmax(-1)


def _sigmoid_in_groups(mlp: Any, x: Tensor) -> Tensor:
    """DeepSeek-V3's router: the best groups by their two best experts, and in them the best experts.

    A correction moves which experts are chosen, but not their weights.
    """
    gate = mlp.gate
    score = F.linear(x, gate.weight).sigmoid()
    corrected = score + gate.e_score_correction_bias
    grouped = corrected.unflatten(-1, (gate.num_group, -1))
    group = _chosen(grouped.topk(2, -1).values.sum(-1), gate.topk_group)
    allowed = group.repeat_interleave(grouped.shape[-1], -1)
    weight = score * _chosen(corrected.masked_fill(allowed == 0, float("-inf")), gate.top_k)
    if gate.norm_topk_prob:
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
    return weight * gate.routed_scaling_factor


_ROUTINGS: dict[str, Routing] = {
    "olmoe": _softmax_then_choose,
    "qwen3_vl_moe_text": _softmax_then_choose_to_one,
    "granitemoe": _choose_then_softmax,
    "glm4_moe": _sigmoid_in_groups,
    "deepseek_v3": _sigmoid_in_groups,
}


def _stacked(mlp: Any, family: str) -> Function:
    """Experts stacked as [E, 2 * inner, D] and [E, D, inner]."""
    experts = mlp.experts

    def shares(x: Tensor) -> Tensor:
        outputs = [
            _gated(x @ up.T, experts.act_fn) @ down.T
            for up, down in zip(experts.gate_up_proj, experts.down_proj, strict=True)
        ]
        return torch.stack(outputs) * _ROUTINGS[family](mlp, x).T[..., None]

    return shares


def _gpt_oss(mlp: Any, family: str) -> Function:
    """Experts [E, D, 2 * inner] with biases, whose gate and up alternate and are clamped."""
    experts = mlp.experts

    def expert(e: int, x: Tensor) -> Tensor:
        both = x @ experts.gate_up_proj[e] + experts.gate_up_proj_bias[e]
        gate = both[..., ::2].clamp(max=experts.limit)
        up = both[..., 1::2].clamp(-experts.limit, experts.limit)
        inner = (up + 1) * gate * torch.sigmoid(experts.alpha * gate)
        return inner @ experts.down_proj[e] + experts.down_proj_bias[e]

    def shares(x: Tensor) -> Tensor:
        weight = _choose_then_softmax(mlp, x)
        return torch.stack([expert(e, x) * weight[:, e : e + 1] for e in range(weight.shape[1])])

    return shares


def _llama4(mlp: Any, family: str) -> Function:
    """Experts [E, D, 2 * inner], whose input and not output is weighted."""
    experts = mlp.experts

    def shares(x: Tensor) -> Tensor:
        score = F.linear(x, mlp.router.weight)
        weight = score.sigmoid() * _chosen(score, mlp.router.top_k)
        return torch.stack(
            [
                _gated((x * weight[:, e : e + 1]) @ experts.gate_up_proj[e], experts.act_fn) @ experts.down_proj[e]
                for e in range(weight.shape[1])
            ]
        )

    return shares


def gemma4_mixture(layer: Any) -> Function:
    """Gemma 4's: a dense MLP and experts, each behind a norm and before one, and a router that norms for itself."""
    router, experts = layer.router, layer.experts

    def weights(x: Tensor) -> Tensor:
        unit = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + router.norm.eps)
        probability = F.linear(unit * router.scale * x.shape[-1] ** -0.5, router.proj.weight).softmax(-1)
        weight = probability * _chosen(probability, router.config.top_k_experts)
        return weight / weight.sum(-1, keepdim=True) * router.per_expert_scale

    def forward(x: Tensor) -> Tensor:
        dense = plain_norm(layer.post_feedforward_layernorm_1)(
            _dense(layer.mlp, plain_norm(layer.pre_feedforward_layernorm)(x))
        )
        normed = plain_norm(layer.pre_feedforward_layernorm_2)(x)
        outputs = [
            _gated(normed @ up.T, experts.act_fn) @ down.T
            for up, down in zip(experts.gate_up_proj, experts.down_proj, strict=True)
        ]
        mixed: Tensor = (torch.stack(outputs, -1) * weights(x)[:, None]).sum(-1)
        return dense + plain_norm(layer.post_feedforward_layernorm_2)(mixed)

    return forward
