"""Falcon's generations for `oracle`, written from their source: what each reads, and in which order q, k and v are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from helpers import oracle_rules as rules
from helpers.oracle_families import Block, Parts, columns, linear, plain_norm

Rows = tuple[Tensor, Tensor | None]


def is_parallel(config: Any) -> bool:
    return bool(config.new_decoder_architecture or config.parallel_attn)


def _split(projection: Any, config: Any) -> list[Rows]:
    """The rows [heads, d, D] and biases [heads, d] of q, k and v."""
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    by_head = projection.weight.view(-1, width, config.hidden_size)  # [heads of all kinds, d, D]
    bias = None if projection.bias is None else projection.bias.view(-1, width)
    if config.new_decoder_architecture:  # a group after another: its queries, then its key and its value
        group = heads // config.num_kv_heads + 2
        kinds = [[i for i in range(len(by_head)) if i % group < group - 2]]
        kinds += [list(range(group - 2, len(by_head), group)), list(range(group - 1, len(by_head), group))]
    elif config.multi_query:
        kinds = [list(range(heads)), [heads], [heads + 1]]
    else:
        kinds = [list(range(kind, 3 * heads, 3)) for kind in range(3)]
    return [(by_head[kind], None if bias is None else bias[kind]) for kind in kinds]


def falcon(model: Any) -> Parts:
    body, config = model.transformer, model.config
    width = config.hidden_size // config.num_attention_heads

    def block(layer: Any) -> Block:
        attn, mlp = layer.self_attention, layer.mlp
        query, key, value = _split(attn.query_key_value, config)
        two = hasattr(layer, "ln_attn")
        before = layer.ln_attn if two else layer.input_layernorm
        of_mlp = layer.ln_mlp if two else getattr(layer, "post_attention_layernorm", before)
        return Block(
            query, key, value,
            output=columns(attn.dense.weight, attn.dense.bias, width),
            mlp=lambda x: linear(mlp.dense_4h_to_h, rules.activated(mlp.act, linear(mlp.dense_h_to_4h, x))),
            scaling=width**-0.5,
            attn_norm=plain_norm(before),
            mlp_norm=plain_norm(of_mlp),
            inv_freq=body.rotary_emb.inv_freq,
            rotary_gain=body.rotary_emb.attention_scaling,
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.word_embeddings.weight[ids],
        blocks=[block(layer) for layer in body.h],
        final_norm=plain_norm(body.ln_f),
        unembed=lambda x: x @ model.lm_head.weight.T,
        parallel=is_parallel(config),
    )
