"""The families whose attention and MLP read one norm's output, for `oracle`: Cohere, Phi and GPT-J.

Written from the models' sources. As in `oracle_families`, only weights, rotary frequencies, epsilons and activation
functions are taken from a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers import oracle_rules as rules
from helpers.oracle_families import (
    Block,
    Function,
    Parts,
    Projection,
    Routed,
    Scale,
    columns,
    gated_mlp,
    linear,
    plain_norm,
    rows,
)


def _layer_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x less its mean, by its standard deviation, over the last dimension; without a bias."""
    centred = x - x.mean(-1, keepdim=True)
    return weight * centred * rules.scale_of_norm(torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + eps))


def _normed_heads(projection: Any, width: int, norm: Callable[[Tensor], Tensor]) -> Function:
    """From the heads' inputs [H, T, D] to their q or k [H, T, d], each normed: `norm` takes [H, T, d]."""
    weight, bias = rows(projection.weight, projection.bias, width)

    def project(x: Tensor) -> Tensor:
        copies = x.shape[0] // weight.shape[0]
        projected = x @ weight.repeat_interleave(copies, 0).transpose(1, 2)
        return norm(projected if bias is None else projected + bias.repeat_interleave(copies, 0)[:, None])

    return project


def _cohere_experts(mlp: Any, config: Any) -> Routed | None:
    """Experts that the largest logits choose, weighted by these alone; and halved where shared ones are averaged in."""
    if not hasattr(mlp, "experts"):
        return None
    experts, shared = mlp.experts, bool(config.num_shared_experts)
    averaged = shared and config.shared_expert_combination_strategy == "average"

    def shares(x: Tensor) -> Tensor:
        logits = x @ mlp.gate.weight.T
        best = logits.topk(config.num_experts_per_tok)
        if config.expert_selection_fn == "softmax":
            weights = best.values.softmax(-1)
        else:
            weights = best.values.sigmoid()
            weights = weights / weights.sum(-1, keepdim=True) if config.norm_topk_prob else weights
        weight = torch.zeros_like(logits).scatter(-1, best.indices, weights)
        outputs = []
        for up, down in zip(experts.gate_up_proj, experts.down_proj, strict=True):
            gate, value = (x @ up.T).chunk(2, -1)
            outputs.append(experts.act_fn(gate) * value @ down.T)
        return torch.stack(outputs) * weight.T[..., None] / (2 if averaged else 1)

    return Routed(len(experts.down_proj), shares, shared)


def _cohere_mlp(mlp: Any, config: Any) -> Function:
    routed = _cohere_experts(mlp, config)
    if routed is None:
        return gated_mlp(mlp)

    def forward(x: Tensor) -> Tensor:
        mixed = routed.shares(x).sum(0)
        if not routed.shared:
            return mixed
        averaged = config.shared_expert_combination_strategy == "average"
        both: Tensor = mixed + gated_mlp(mlp.shared_experts)(x) / (2 if averaged else 1)
        return both

    return forward


def _cohere(model: Any) -> Parts:
    body, config = model.model, model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def whole_norm(module: Any) -> Function:
        if getattr(config, "rms_norm_eps", None) is not None:  # of a mixture
            scale = Scale(module.weight, config.rms_norm_eps)
            return lambda x: x * scale(x)
        return lambda x: _layer_norm(x, module.weight, config.layer_norm_eps)

    def headed(projection: Any, norm: Any) -> Projection:
        if norm is None:
            return rows(projection.weight, projection.bias, width)

        def normed(x: Tensor) -> Tensor:  # [H, T, d]; the weight has a row for each head of q, or of k
            weight = norm.weight.repeat_interleave(x.shape[0] // norm.weight.shape[0], 0)
            return _layer_norm(x, weight[:, None], config.layer_norm_eps)

        return _normed_heads(projection, width, normed)

    def block(i: int, layer: Any) -> Block:
        attn, norm = layer.self_attn, whole_norm(layer.input_layernorm)
        types = None if config.model_type == "cohere" else config.layer_types
        in_window = types is not None and types[i] == "sliding_attention"
        rotated = types is None or in_window  # Cohere 2 has no positions where it sees all tokens,
        if config.model_type == "cohere2_moe" and config.prefix_dense_sliding_window_pattern == 1:
            rotated = rotated or config.mlp_layer_types[i] == "dense"  # but in its first, dense layers
        return Block(
            query=headed(attn.q_proj, getattr(attn, "q_norm", None)),
            key=headed(attn.k_proj, getattr(attn, "k_norm", None)),
            value=rows(attn.v_proj.weight, attn.v_proj.bias, width),
            output=columns(attn.o_proj.weight, attn.o_proj.bias, width),
            mlp=_cohere_mlp(layer.mlp, config),
            routed=_cohere_experts(layer.mlp, config),
            scaling=width**-0.5,
            attn_norm=norm,
            mlp_norm=norm,
            inv_freq=body.rotary_emb.inv_freq if rotated else None,
            rotary_gain=body.rotary_emb.attention_scaling,
            rotate_pairs=True,
            window=config.sliding_window if in_window else None,
        )

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids],
        blocks=[block(i, layer) for i, layer in enumerate(body.layers)],
        final_norm=whole_norm(body.norm),
        unembed=lambda x: x @ model.lm_head.weight.T * config.logit_scale,
        parallel=True,
    )


def _phi(model: Any) -> Parts:
    body, config = model.model, model.config
    width = config.hidden_size // config.num_attention_heads

    def block(layer: Any) -> Block:
        attn, mlp, norm = layer.self_attn, layer.mlp, plain_norm(layer.input_layernorm)
        query, key, value = (rows(p.weight, p.bias, width) for p in (attn.q_proj, attn.k_proj, attn.v_proj))
        if config.qk_layernorm:
            query = _normed_heads(attn.q_proj, width, plain_norm(attn.q_layernorm))
            key = _normed_heads(attn.k_proj, width, plain_norm(attn.k_layernorm))
        return Block(
            query, key, value,
            output=columns(attn.dense.weight, attn.dense.bias, width),
            mlp=lambda x: linear(mlp.fc2, rules.activated(mlp.activation_fn, linear(mlp.fc1, x))),
            scaling=width**-0.5,
            attn_norm=norm,
            mlp_norm=norm,
            inv_freq=body.rotary_emb.inv_freq,
            rotary_gain=body.rotary_emb.attention_scaling,
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids],
        blocks=[block(layer) for layer in body.layers],
        final_norm=plain_norm(body.final_layernorm),
        unembed=lambda x: linear(model.lm_head, x),
        parallel=True,
    )


def _gpt_j(model: Any) -> Parts:
    body, config = model.transformer, model.config
    width = config.n_embd // config.n_head
    turned = torch.arange(0, config.rotary_dim, 2, dtype=torch.float64)

    def block(layer: Any) -> Block:
        attn, mlp, norm = layer.attn, layer.mlp, plain_norm(layer.ln_1)
        query, key, value = (rows(p.weight, None, width) for p in (attn.q_proj, attn.k_proj, attn.v_proj))
        return Block(
            query, key, value,
            output=columns(attn.out_proj.weight, None, width),
            mlp=lambda x: linear(mlp.fc_out, rules.activated(mlp.act, linear(mlp.fc_in, x))),
            scaling=width**-0.5,
            attn_norm=norm,
            mlp_norm=norm,
            inv_freq=10000.0 ** (-turned / config.rotary_dim),
            rotate_pairs=True,
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.wte.weight[ids],
        blocks=[block(layer) for layer in body.h],
        final_norm=plain_norm(body.ln_f),
        unembed=lambda x: linear(model.lm_head, x),
        parallel=True,
    )


FORWARDS: dict[str, Callable[[Any], Parts]] = {
    **dict.fromkeys(("cohere", "cohere2", "cohere2_moe"), _cohere),
    "phi": _phi,
    "gptj": _gpt_j,
}
"""model_type → the parts of a model of it."""
