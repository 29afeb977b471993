"""The families for `oracle` whose layers are not all an attention and an MLP."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.oracle_families import (
    Block,
    Function,
    Parts,
    Routed,
    Scale,
    columns,
    experts,
    gated_mlp,
    linear,
    plain_norm,
    routed_experts,
    rows,
)
from helpers.oracle_mixers import MambaSizes, gated_delta_net, mamba

# Each kind of layer of `config.layer_types` by its sublayers.
_USUAL = {"linear_attention": ("mixer", "mlp"), "full_attention": ("attn", "mlp")}
_KINDS = {
    "qwen3_next": _USUAL,
    "qwen3_5_text": _USUAL,
    "qwen3_5_moe_text": _USUAL,
    "granitemoehybrid": _USUAL,
    "falcon_h1": {"hybrid": ("attn", "mixer", "mlp")},
    "nemotron_h": {
        "linear_attention": ("mixer",),
        "full_attention": ("attn",),
        "moe": ("mlp",),
        "mlp": ("mlp",),
    },
}


def layer_sublayers(config: Any) -> list[tuple[str, ...]] | None:
    """The sublayers of each layer; None for a family whose layers all have an attention and an MLP."""
    kinds = _KINDS.get(getattr(config, "model_type", ""))
    return None if kinds is None else [kinds[kind] for kind in config.layer_types]


def hybrid_parts(model: Any) -> Parts | None:
    """The parts of a model of these families, or None for another."""
    family = model.config.model_type
    if family.startswith(("qwen3_next", "qwen3_5")):
        return _qwen(model)
    return {"granitemoehybrid": _granite, "falcon_h1": _falcon, "nemotron_h": _nemotron}.get(family, lambda _: None)(
        model
    )


def _qwen(model: Any) -> Parts:
    body, config = model.model, model.config
    width = config.head_dim

    def block(layer: Any) -> Block:
        norms = {
            "attn_norm": _less_one_norm(layer.input_layernorm),
            "mlp_norm": _less_one_norm(layer.post_attention_layernorm),
        }
        if hasattr(layer, "linear_attn"):
            return _without_attention(
                mixer=lambda x: gated_delta_net(layer.linear_attn, config, x), mlp=_qwen_mlp(layer.mlp),
                routed=_with_shared(layer.mlp), **norms
            )  # fmt: skip
        attn = layer.self_attn
        both = attn.q_proj.weight.view(-1, 2, width, config.hidden_size)  # each head's q, then its gate
        return Block(
            (both[:, 0], None), rows(attn.k_proj.weight, None, width), rows(attn.v_proj.weight, None, width),
            output=columns(attn.o_proj.weight, None, width),
            mlp=_qwen_mlp(layer.mlp),
            routed=_with_shared(layer.mlp),
            scaling=width**-0.5,
            query_norm=_less_one(attn.q_norm),
            key_norm=_less_one(attn.k_norm),
            inv_freq=body.rotary_emb.inv_freq,
            gate=(both[:, 1], None),
            **norms,
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids],
        blocks=[block(layer) for layer in body.layers],
        final_norm=_less_one_norm(body.norm),
        unembed=lambda x: x @ model.lm_head.weight.T,
    )


def _less_one(module: Any) -> Scale:
    return Scale(module.weight + 1, module.eps)


def _less_one_norm(module: Any) -> Function:
    scale = _less_one(module)
    return lambda x: x * scale(x)


def _qwen_mlp(mlp: Any) -> Function:
    if not hasattr(mlp, "experts"):
        return gated_mlp(mlp)
    shared = gated_mlp(mlp.shared_expert)
    return lambda x: experts(mlp, x) + (x @ mlp.shared_expert_gate.weight.T).sigmoid() * shared(x)


def _with_shared(mlp: Any) -> Routed | None:
    routed = routed_experts(mlp)
    return None if routed is None else replace(routed, shared=True)


def _granite(model: Any) -> Parts:
    body, config = model.model, model.config
    width = config.hidden_size // config.num_attention_heads
    rotary = body.rotary_emb.inv_freq if config.position_embedding_type == "rope" else None
    sizes = MambaSizes(config.mamba_n_heads, config.mamba_n_groups, config.mamba_d_state, config.time_step_limit)

    def multiplied(whole: Tensor) -> Tensor:
        return torch.full_like(whole, config.residual_multiplier)

    def feed_forward(layer: Any, x: Tensor) -> Tensor:
        gate, up = linear(layer.shared_mlp.input_linear, x).chunk(2, -1)
        shared = linear(layer.shared_mlp.output_linear, F.silu(gate) * up)
        if not config.num_local_experts:
            return shared
        return shared + experts(mixture(layer), x)

    def mixture(layer: Any) -> Any:
        # Softmax over the chosen experts' logits: their shares of the softmax over all, normalised.
        moe = layer.block_sparse_moe
        return SimpleNamespace(gate=moe.router, experts=moe.experts)

    def block(layer: Any) -> Block:
        common: dict[str, Any] = {
            "mlp": lambda x: feed_forward(layer, x),
            "routed": _with_shared(mixture(layer)) if config.num_local_experts else None,
            "attn_norm": plain_norm(layer.input_layernorm),
            "mlp_norm": plain_norm(layer.post_attention_layernorm),
            "attn_post": multiplied,
            "mlp_post": multiplied,
        }
        if layer.mamba is not None:
            return _without_attention(mixer=lambda x: mamba(layer.mamba, sizes, x), **common)
        attn = layer.self_attn
        return Block(
            *(rows(p.weight, p.bias, width) for p in (attn.q_proj, attn.k_proj, attn.v_proj)),
            output=columns(attn.o_proj.weight, attn.o_proj.bias, width),
            scaling=config.attention_multiplier,
            inv_freq=rotary,
            **common,
        )

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids] * config.embedding_multiplier,
        blocks=[block(layer) for layer in body.layers],
        final_norm=plain_norm(body.norm),
        unembed=lambda x: x @ model.lm_head.weight.T / config.logits_scaling,
    )


def _falcon(model: Any) -> Parts:
    body, config = model.model, model.config
    width = config.hidden_size // config.num_attention_heads
    read, wrote = config.attention_in_multiplier, config.attention_out_multiplier
    sizes = MambaSizes(
        config.mamba_n_heads, config.mamba_n_groups, config.mamba_d_state, config.time_step_limit,
        config.ssm_in_multiplier, config.ssm_multipliers, config.mamba_rms_norm,
    )  # fmt: skip
    assert not (config.mamba_rms_norm and config.mamba_norm_before_gate), "written out for the gate before the norm"

    def feed_forward(mlp: Any, x: Tensor) -> Tensor:
        gate, down = config.mlp_multipliers
        return linear(mlp.down_proj, F.silu(linear(mlp.gate_proj, x) * gate) * linear(mlp.up_proj, x)) * down

    def block(layer: Any) -> Block:
        attn = layer.self_attn
        scaled = zip((attn.q_proj, attn.k_proj, attn.v_proj), (read, read * config.key_multiplier, read), strict=True)
        return Block(
            *(rows(p.weight * by, None, width) for p, by in scaled),
            output=columns(attn.o_proj.weight * wrote, None, width),
            mlp=lambda x: feed_forward(layer.feed_forward, x),
            scaling=width**-0.5,
            attn_norm=plain_norm(layer.input_layernorm),
            mlp_norm=plain_norm(layer.pre_ff_layernorm),
            inv_freq=body.rotary_emb.inv_freq,
            mixer=lambda x: mamba(layer.mamba, sizes, x) * config.ssm_out_multiplier,
        )

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids] * config.embedding_multiplier,
        blocks=[block(layer) for layer in body.layers],
        final_norm=plain_norm(body.final_layernorm),
        unembed=lambda x: x @ model.lm_head.weight.T * config.lm_head_multiplier,
    )


def _nemotron(model: Any) -> Parts:
    body, config = model.model, model.config
    width = config.head_dim
    sizes = MambaSizes(
        config.mamba_num_heads, config.n_groups, config.ssm_state_size, (config.time_step_min, float("inf"))
    )

    def block(layer: Any, kind: str) -> Block:
        inner, norm = layer.mixer, plain_norm(layer.norm)
        if kind == "linear_attention":
            return _without_attention(mixer=lambda x: mamba(inner, sizes, x), attn_norm=norm)
        if kind == "full_attention":
            return Block(
                *(rows(p.weight, p.bias, width) for p in (inner.q_proj, inner.k_proj, inner.v_proj)),
                output=columns(inner.o_proj.weight, inner.o_proj.bias, width),
                mlp=None,
                scaling=width**-0.5,
                attn_norm=norm,
                mlp_norm=norm,
            )
        if kind == "mlp":
            return _without_attention(mlp=_squared_relu_mlp(inner), mlp_norm=norm)
        return _without_attention(
            mlp=lambda x: _nemotron_experts(inner, config, x),
            routed=Routed(len(inner.experts.down_proj), lambda x: _nemotron_shares(inner, config, x), shared=True),
            mlp_norm=norm,
        )

    return Parts(
        embed=lambda ids: body.embeddings.weight[ids],
        blocks=[block(layer, kind) for layer, kind in zip(body.layers, config.layer_types, strict=True)],
        final_norm=plain_norm(body.norm_f),
        unembed=lambda x: x @ model.lm_head.weight.T,
    )


def _squared_relu_mlp(mlp: Any) -> Function:
    return lambda x: linear(mlp.down_proj, F.relu(linear(mlp.up_proj, x)).square())


def _nemotron_experts(moe: Any, config: Any, x: Tensor) -> Tensor:
    """The experts' shares, the bias of the way back from their latent, and the shared expert, [T, D]."""
    bias = moe.fc2_latent_proj.bias if config.moe_latent_size is not None else None
    mixed = _nemotron_shares(moe, config, x).sum(0) + (0 if bias is None else bias)
    shared: Tensor = _squared_relu_mlp(moe.shared_experts)(x)
    return shared + mixed


def _nemotron_shares(moe: Any, config: Any, x: Tensor) -> Tensor:
    """Every expert on every token, [E, T, D], weighted as the router says, which chooses groups of experts first."""
    score = (x @ moe.gate.weight.T).sigmoid()
    choice = score + moe.gate.e_score_correction_bias
    groups = choice.unflatten(-1, (config.n_group, -1))
    best = groups.topk(2).values.sum(-1).topk(config.topk_group).indices
    open_groups = torch.zeros_like(groups[..., 0]).scatter(-1, best, 1.0)
    choice = (groups + (1 - open_groups)[..., None] * -1e9).flatten(-2)
    chosen = torch.zeros_like(score).scatter(-1, choice.topk(config.num_experts_per_tok).indices, 1.0)
    weight = score * chosen
    if config.norm_topk_prob:
        weight = weight / weight.sum(-1, keepdim=True)
    latent = config.moe_latent_size is not None
    read = linear(moe.fc1_latent_proj, x) if latent else x
    each = torch.stack(
        [
            F.relu(read @ up.T).square() @ down.T
            for up, down in zip(moe.experts.up_proj, moe.experts.down_proj, strict=True)
        ]
    )
    shares: Tensor = each * weight.T[..., None] * config.routed_scaling_factor
    return shares @ moe.fc2_latent_proj.weight.T if latent else shares


def _without_attention(**fields: Any) -> Block:
    """A layer with a mixer, an MLP, or both."""
    absent = {"query": None, "key": None, "value": None, "output": None, "scaling": 1.0}
    norms = {"attn_norm": None, "mlp_norm": None, "mlp": None}
    return Block(**{**absent, **norms, **fields})
