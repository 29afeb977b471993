"""The families that came after Llama's first relatives, for `oracle`: what each does otherwise, and nothing else.

Written from the models' sources. As in `oracle_families`, only weights, rotary frequencies, epsilons and activation
functions are taken from a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from helpers.oracle_experts import gemma4_mixture, mixture, routed_by_family
from helpers.oracle_families import (
    _POST,
    _PRE,
    Block,
    Parts,
    Scale,
    _rms,
    columns,
    gated_mlp,
    linear,
    plain_norm,
    rows,
)

Rotary = Callable[[Any, int], str | None]


def _every_layer(config: Any, layer: int) -> str | None:
    """The prefix of the layer's rotary frequencies; None where nothing is rotated."""
    return ""


def _by_layer_type(config: Any, layer: int) -> str | None:
    return f"{config.layer_types[layer]}_"


def _listed_layers(config: Any, layer: int) -> str | None:
    return "" if config.no_rope_layers[layer] else None  # 1 where a layer is rotated, whatever the name says


def _window_layers_only(config: Any, layer: int) -> str | None:
    return "" if config.sliding_window is None or config.layer_types[layer] == "sliding_attention" else None


@dataclass(frozen=True)
class _Family:
    """How a family's layers differ from Llama's."""

    norms: tuple[str | None, ...] = _PRE  # before and after attention, before and after the MLP
    rotary: Rotary = _every_layer
    rotate_pairs: bool = False
    norm_after_rotary: bool = False
    query_norm: str = "q_norm"
    key_norm: str = "k_norm"
    mlp: str = "mlp"
    sparse: bool = False


_GLM4 = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")
_FAMILIES = {
    "olmo3": _Family(norms=_POST, rotary=_by_layer_type),
    "exaone4": _Family(norms=_POST, rotary=_window_layers_only),
    "smollm3": _Family(rotary=_listed_layers),
    "ministral": _Family(),
    "ministral3": _Family(),
    "qwen3_vl_moe_text": _Family(sparse=True),  # on text, the three positions of a token are one
    "glm4": _Family(norms=_GLM4, rotate_pairs=True),
    "hunyuan_v1_dense": _Family(norm_after_rotary=True, query_norm="query_layernorm", key_norm="key_layernorm"),
    "olmoe": _Family(sparse=True),
    "granitemoe": _Family(sparse=True, mlp="block_sparse_moe"),
    "glm4_moe": _Family(sparse=True),
    "gpt_oss": _Family(sparse=True),
    "llama4_text": _Family(
        sparse=True, mlp="feed_forward", rotary=_listed_layers, rotate_pairs=True, norm_after_rotary=True
    ),
}


def _window(config: Any, layer: int) -> int | None:
    if config.model_type == "ministral3":
        return config.sliding_window  # in every layer, or None
    types = getattr(config, "layer_types", None)
    return config.sliding_window if types and types[layer] == "sliding_attention" else None


def _chunk(config: Any, layer: int) -> int | None:
    types = getattr(config, "layer_types", None)
    return config.attention_chunk_size if types and types[layer] == "chunked_attention" else None


def _temperature(config: Any, layer: int) -> Tensor | None:
    """Factors of the queries, by the position of the query: Llama 4's in layers without positions, Ministral 3's."""
    position = torch.arange(config.max_position_embeddings, dtype=torch.float64)
    if config.model_type == "ministral3":
        rope = config.rope_parameters
        seen = torch.floor(position / rope["original_max_position_embeddings"])
        return 1 + rope["llama_4_scaling_beta"] * torch.log1p(seen)
    if not getattr(config, "attn_temperature_tuning", False) or config.no_rope_layers[layer]:
        return None
    return 1 + config.attn_scale * torch.log1p(torch.floor((position + 1) / config.floor_scale))


def _head_norm(attn: Any, name: str, width: int) -> Scale | None:
    if hasattr(attn, "qk_norm"):  # Llama 4's, of queries and keys alike, which has no weight
        return Scale(torch.ones(width, dtype=torch.float64), attn.qk_norm.eps)
    return _rms(getattr(attn, name, None))


def _decoder(model: Any) -> Parts:
    body, config = model.model, model.config
    family = _FAMILIES[config.model_type]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    multiplier = getattr(config, "residual_multiplier", None)

    def multiplied(whole: Tensor) -> Tensor:
        return torch.full_like(whole, multiplier)

    def block(i: int, layer: Any) -> Block:
        attn, mlp = layer.self_attn, getattr(layer, family.mlp)
        query, key, value = (rows(p.weight, p.bias, width) for p in (attn.q_proj, attn.k_proj, attn.v_proj))
        attn_norm, attn_post, mlp_norm, mlp_post = (getattr(layer, name) if name else None for name in family.norms)
        prefix = family.rotary(config, i)
        return Block(
            query, key, value,
            output=columns(attn.o_proj.weight, attn.o_proj.bias, width),
            mlp=mixture(mlp, config.model_type) if family.sparse else gated_mlp(mlp),
            routed=routed_by_family(mlp, config.model_type) if family.sparse else None,
            scaling=getattr(config, "attention_multiplier", width**-0.5),
            attn_norm=plain_norm(attn_norm),
            mlp_norm=plain_norm(mlp_norm),
            attn_post=_rms(attn_post) if multiplier is None else multiplied,
            mlp_post=_rms(mlp_post) if multiplier is None else multiplied,
            query_norm=_head_norm(attn, family.query_norm, width),
            key_norm=_head_norm(attn, family.key_norm, width),
            norm_after_rotary=family.norm_after_rotary,
            inv_freq=None if prefix is None else getattr(body.rotary_emb, f"{prefix}inv_freq"),
            rotary_gain=1.0 if prefix is None else getattr(body.rotary_emb, f"{prefix}attention_scaling"),
            rotate_pairs=family.rotate_pairs,
            window=_window(config, i),
            chunk=_chunk(config, i),
            temperature=_temperature(config, i),
            sinks=getattr(attn, "sinks", None),
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids] * getattr(config, "embedding_multiplier", 1.0),
        blocks=[block(i, layer) for i, layer in enumerate(body.layers)],
        final_norm=plain_norm(body.norm),
        unembed=lambda x: x @ model.lm_head.weight.T / getattr(config, "logits_scaling", 1.0),
    )


def _latent_decoder(model: Any) -> Parts:
    """DeepSeek-V3: every head's q, and its k and v, are read through a low rank; one rotated key serves all heads.

    A head's k and v come from its own copy of the stream: its own copy of the latent, and of the rotated key.
    """
    body, config = model.model, model.config
    rank, plain, rotated = config.kv_lora_rank, config.qk_nope_head_dim, config.qk_rope_head_dim

    def block(layer: Any) -> Block:
        attn = layer.self_attn
        by_head = attn.kv_b_proj.weight.view(-1, plain + config.v_head_dim, rank)

        def latent(x: Tensor) -> Tensor:
            return plain_norm(attn.kv_a_layernorm)(linear(attn.kv_a_proj_with_mqa, x)[..., :rank])

        def rotated_first(x: Tensor) -> Tensor:
            return torch.cat([x[..., plain:], x[..., :plain]], -1)

        def query(x: Tensor) -> Tensor:
            if config.q_lora_rank is None:
                inner, weight = x, attn.q_proj.weight
            else:
                inner, weight = plain_norm(attn.q_a_layernorm)(linear(attn.q_a_proj, x)), attn.q_b_proj.weight
            return rotated_first(inner @ weight.view(-1, plain + rotated, weight.shape[-1]).transpose(1, 2))

        def key(x: Tensor) -> Tensor:
            shared = linear(attn.kv_a_proj_with_mqa, x)[..., rank:]
            return torch.cat([shared, latent(x) @ by_head[:, :plain].transpose(1, 2)], -1)

        rope = config.rope_parameters
        gain = 1.0
        if rope["rope_type"] == "yarn" and rope.get("mscale_all_dim"):
            gain = 0.1 * rope["mscale_all_dim"] * math.log(rope["factor"]) + 1
        return Block(
            query, key,
            value=lambda x: latent(x) @ by_head[:, plain:].transpose(1, 2),
            output=columns(attn.o_proj.weight, attn.o_proj.bias, config.v_head_dim),
            mlp=mixture(layer.mlp, config.model_type),
            routed=routed_by_family(layer.mlp, config.model_type),
            scaling=(plain + rotated) ** -0.5 * gain**2,
            attn_norm=plain_norm(layer.input_layernorm),
            mlp_norm=plain_norm(layer.post_attention_layernorm),
            inv_freq=body.rotary_emb.inv_freq,
            rotary_gain=body.rotary_emb.attention_scaling,
            rotate_pairs=config.rope_interleave,
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids],
        blocks=[block(layer) for layer in body.layers],
        final_norm=plain_norm(body.norm),
        unembed=lambda x: x @ model.lm_head.weight.T,
    )


def _gemma4(model: Any) -> Parts:
    """Gemma 4: the stream is multiplied by a number after each layer; values are normed; heads differ by layer type."""
    body, config = model.model, model.config
    cap = config.final_logit_softcapping

    def block(i: int, layer: Any) -> Block:
        attn, kind = layer.self_attn, config.layer_types[i]
        width = config.per_layer_config[i].head_dim
        query, key = (rows(each.weight, each.bias, width) for each in (attn.q_proj, attn.k_proj))
        of_values = key if attn.v_proj is None else rows(attn.v_proj.weight, attn.v_proj.bias, width)
        whole = Scale(torch.ones(width, dtype=torch.float64), attn.v_norm.eps)

        def value(x: Tensor) -> Tensor:
            plain = x @ of_values[0].repeat_interleave(len(x) // len(of_values[0]), 0).transpose(1, 2)
            return plain * whole(plain)

        sparse = config.enable_moe_block
        return Block(
            query, key, value,
            output=columns(attn.o_proj.weight, attn.o_proj.bias, width),
            mlp=gemma4_mixture(layer) if sparse else gated_mlp(layer.mlp),
            scaling=1.0,
            attn_norm=plain_norm(layer.input_layernorm),
            mlp_norm=(lambda x: x) if sparse else plain_norm(layer.pre_feedforward_layernorm),
            attn_post=_rms(layer.post_attention_layernorm),
            mlp_post=_rms(layer.post_feedforward_layernorm),
            query_norm=_rms(attn.q_norm),
            key_norm=_rms(attn.k_norm),
            inv_freq=getattr(body.rotary_emb, f"{kind}_inv_freq"),
            rotary_gain=getattr(body.rotary_emb, f"{kind}_attention_scaling"),
            window=config.sliding_window if kind == "sliding_attention" else None,
            carries=float(layer.layer_scalar),
        )  # fmt: skip

    def unembed(x: Tensor) -> Tensor:
        raw: Tensor = x @ model.lm_head.weight.T
        return raw if cap is None else torch.tanh(raw / cap) * cap

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids] * body.embed_tokens.embed_scale,
        blocks=[block(i, layer) for i, layer in enumerate(body.layers)],
        final_norm=plain_norm(body.norm),
        unembed=unembed,
    )


FORWARDS: dict[str, Callable[[Any], Parts]] = {
    **dict.fromkeys(_FAMILIES, _decoder),
    "deepseek_v3": _latent_decoder,
    "gemma4_text": _gemma4,
}
"""model_type → the parts of a model of it."""
