"""Every family's weights in one plain shape, for `oracle`: which rows are a head's, which norm stands where.

Only parameters, rotary frequencies, norm epsilons and activation functions are taken from a model; all of the
arithmetic is here and in `oracle`, so that it runs in the dtype of the weights and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import oracle_rules as rules

Function = Callable[[Tensor], Tensor]


def _identity(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Scale:
    """An RMSNorm with weight [n], seen as x * scale(x)."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """The factors [..., n] by which the norm multiplies x [..., n]."""
        return self.weight * rules.scale_of_norm(torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


Projection = tuple[Tensor, Tensor | None] | Function
"""Weight and bias; or, from the heads' inputs [H, T, D], the heads' queries, keys or values [H, T, d]."""


@dataclass(frozen=True)
class Routed:
    """The experts that an MLP routes tokens to."""

    count: int
    shares: Function  # the MLP's input [T, D] -> what each expert adds to its output, [E, T, D]
    shared: bool = False  # whether the MLP writes anything beside them


@dataclass(frozen=True)
class Block:
    """One layer. H query heads, G key/value heads, d their width, D the stream's. None where there is no such part."""

    query: Projection | None  # [H, d, D], [H, d]
    key: Projection | None  # [G, d, D], [G, d]
    value: Projection | None  # [G, d, D], [G, d]
    output: tuple[Tensor, Tensor | None] | None  # [H, D, d], [D]
    mlp: Function | None  # [T, D] -> [T, D], biases included
    scaling: float
    attn_norm: Function  # before the projections; the identity where they read the stream itself
    mlp_norm: Function
    attn_post: Function | None = None  # [T, D] -> factors on what joins the stream, after the sublayer
    mlp_post: Function | None = None
    query_norm: Scale | None = None  # of d (each head by itself) or of H * d (all heads together)
    key_norm: Scale | None = None
    norm_after_rotary: bool = False
    inv_freq: Tensor | None = None  # [rotary / 2]; None: no rotary positions
    rotate_pairs: bool = False  # neighbours 0 and 1, 2 and 3, … turn together, not a feature and one of the second half
    rotary_gain: float = 1.0
    window: int | None = None
    chunk: int | None = None  # a query sees the keys of its own chunk of so many positions
    temperature: Tensor | None = None  # [positions], what each position's queries are multiplied by
    sinks: Tensor | None = None  # [H], the score of a key that each head always sees, and that has no value
    softcap: float | None = None
    gate: Projection | None = None  # [H, d, D], [H, d], of each head's output, read with its q
    carries: float = 1.0  # what the whole stream is multiplied by at the layer's end
    routed: Routed | None = None  # the experts of the MLP
    mixer: Function | None = None  # [T, D] -> [T, D], behind attn_norm: mixes tokens without attention


@dataclass(frozen=True)
class Parts:
    embed: Function  # ids [T] -> [T, D]
    blocks: list[Block]
    final_norm: Function
    unembed: Function  # [T, D] -> [T, V]
    parallel: bool = False  # attention and MLP of a layer read the same stream


def parts_of(model: Any) -> Parts:
    family = model.config.model_type
    if family == "gpt2":
        return _gpt2(model)
    if family == "gpt_neox":
        return _gpt_neox(model)
    if family in _LLAMA_LIKE:
        return _llama_like(model)
    # Here, since both are built of what is in this module.
    from helpers import oracle_falcon, oracle_recent, oracle_shared_norm
    from helpers.oracle_hybrids import hybrid_parts

    forwards = oracle_recent.FORWARDS | oracle_shared_norm.FORWARDS | {"falcon": oracle_falcon.falcon}
    if family in forwards:
        return forwards[family](model)
    if (parts := hybrid_parts(model)) is not None:
        return parts
    raise NotImplementedError(f"the oracle has no forward for {family!r}")


def _rms(module: Any) -> Scale | None:
    if module is None:
        return None
    # Gemma keeps its norm weights less one, but for Gemma 4, whose norm of values has no weight at all.
    centred = re.match(r"Gemma(?!4)", type(module).__name__) is not None
    eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
    return Scale(module.weight + 1 if centred else module.weight, eps)


def plain_norm(module: Any) -> Function:
    if isinstance(module, nn.LayerNorm):
        return lambda x: Scale(module.weight, module.eps)(c := x - x.mean(-1, keepdim=True)) * c + module.bias
    scale = _rms(module)
    return _identity if scale is None else lambda x: x * scale(x)


def rows(weight: Tensor, bias: Tensor | None, width: int) -> tuple[Tensor, Tensor | None]:
    """A projection's weight [heads * width, D] and bias as [heads, width, D] and [heads, width]."""
    return weight.view(-1, width, weight.shape[-1]), None if bias is None else bias.view(-1, width)


def columns(weight: Tensor, bias: Tensor | None, width: int) -> tuple[Tensor, Tensor | None]:
    """An output projection's weight [D, heads * width] as [heads, D, width]; its bias as it is."""
    return weight.view(weight.shape[0], -1, width).transpose(0, 1), bias


def _gpt2(model: Any) -> Parts:
    body, config = model.transformer, model.config
    width = config.n_embd // config.n_head

    def block(i: int, layer: Any) -> Block:
        attn, mlp = layer.attn, layer.mlp
        weights, biases = attn.c_attn.weight.T.chunk(3), attn.c_attn.bias.chunk(3)  # Conv1D keeps [in, out]
        query, key, value = (rows(w, b, width) for w, b in zip(weights, biases, strict=True))
        return Block(
            query, key, value,
            output=columns(attn.c_proj.weight.T, attn.c_proj.bias, width),
            mlp=lambda x: rules.activated(mlp.act, x @ mlp.c_fc.weight + mlp.c_fc.bias) @ mlp.c_proj.weight
            + mlp.c_proj.bias,
            scaling=(width**-0.5 if config.scale_attn_weights else 1.0)
            / (i + 1 if config.scale_attn_by_inverse_layer_idx else 1),
            attn_norm=plain_norm(layer.ln_1),
            mlp_norm=plain_norm(layer.ln_2),
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.wte.weight[ids] + body.wpe.weight[: len(ids)],
        blocks=[block(i, layer) for i, layer in enumerate(body.h)],
        final_norm=plain_norm(body.ln_f),
        unembed=lambda x: x @ model.lm_head.weight.T,
    )


def _gpt_neox(model: Any) -> Parts:
    body, config = model.gpt_neox, model.config
    width = config.hidden_size // config.num_attention_heads

    def block(layer: Any) -> Block:
        attn, mlp = layer.attention, layer.mlp
        # Each head's rows are its own q, k and v rows in turn.
        weight, bias = rows(attn.query_key_value.weight, attn.query_key_value.bias, 3 * width)
        biases = (None,) * 3 if bias is None else bias.chunk(3, 1)
        query, key, value = zip(weight.chunk(3, 1), biases, strict=True)
        return Block(
            query, key, value,
            output=columns(attn.dense.weight, attn.dense.bias, width),
            mlp=lambda x: linear(mlp.dense_4h_to_h, rules.activated(mlp.act, linear(mlp.dense_h_to_4h, x))),
            scaling=width**-0.5,
            attn_norm=plain_norm(layer.input_layernorm),
            mlp_norm=plain_norm(layer.post_attention_layernorm),
            inv_freq=body.rotary_emb.inv_freq,
            rotary_gain=body.rotary_emb.attention_scaling,
        )  # fmt: skip

    return Parts(
        embed=lambda ids: body.embed_in.weight[ids],
        blocks=[block(layer) for layer in body.layers],
        final_norm=plain_norm(body.final_layer_norm),
        unembed=lambda x: x @ model.lm_head.weight.T,
        parallel=config.use_parallel_residual,
    )


# The norms of a layer by attribute name: before and after its attention, before and after its MLP.
_PRE = ("input_layernorm", None, "post_attention_layernorm", None)
_POST = (None, "post_attention_layernorm", None, "post_feedforward_layernorm")
_BOTH = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_LLAMA_LIKE = {
    "llama": _PRE, "mistral": _PRE, "qwen2": _PRE, "qwen3": _PRE, "phi3": _PRE, "mixtral": _PRE,
    "qwen3_moe": _PRE, "granite": _PRE, "olmo2": _POST, "gemma2": _BOTH, "gemma3_text": _BOTH,
}  # fmt: skip


def _llama_like(model: Any) -> Parts:
    body, config, family = model.model, model.config, model.config.model_type
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    gemma, granite = family.startswith("gemma"), family == "granite"
    factor = config.query_pre_attn_scalar**-0.5 if gemma else config.attention_multiplier if granite else width**-0.5

    def multiplied(whole: Tensor) -> Tensor:
        return torch.full_like(whole, config.residual_multiplier)

    def block(i: int, layer: Any) -> Block:
        attn, mlp, rotary = layer.self_attn, layer.mlp, body.rotary_emb
        if family == "phi3":
            weights = attn.qkv_proj.weight.split([heads * width, groups * width, groups * width])
            query, key, value = (rows(weight, None, width) for weight in weights)
        else:
            query, key, value = (rows(p.weight, p.bias, width) for p in (attn.q_proj, attn.k_proj, attn.v_proj))
        if family in ("mistral", "mixtral", "phi3", "qwen3_moe"):
            window = config.sliding_window  # one for the whole model, or None
        else:
            sliding = getattr(config, "layer_types", None) and config.layer_types[i] == "sliding_attention"
            window = config.sliding_window if sliding else None
        # Gemma 3 has a rotary base for each kind of layer.
        prefix = f"{config.layer_types[i]}_" if family == "gemma3_text" else ""
        attn_norm, attn_post, mlp_norm, mlp_post = (
            getattr(layer, name) if name else None for name in _LLAMA_LIKE[family]
        )
        return Block(
            query, key, value,
            output=columns(attn.o_proj.weight, attn.o_proj.bias, width),
            mlp=gated_mlp(mlp),
            routed=routed_experts(mlp),
            scaling=factor,
            attn_norm=plain_norm(attn_norm),
            mlp_norm=plain_norm(mlp_norm),
            attn_post=multiplied if granite else _rms(attn_post),
            mlp_post=multiplied if granite else _rms(mlp_post),
            query_norm=_rms(getattr(attn, "q_norm", None)),
            key_norm=_rms(getattr(attn, "k_norm", None)),
            inv_freq=getattr(rotary, f"{prefix}inv_freq"),
            rotary_gain=getattr(rotary, f"{prefix}attention_scaling"),
            window=window,
            # Gemma 3 has the field too and its attention never applies it.
            softcap=config.attn_logit_softcapping if family == "gemma2" else None,
        )  # fmt: skip

    cap = config.final_logit_softcapping if gemma else None
    scale = body.embed_tokens.embed_scale if gemma else config.embedding_multiplier if granite else 1.0
    divisor = config.logits_scaling if granite else 1.0

    def unembed(x: Tensor) -> Tensor:
        raw: Tensor = x @ model.lm_head.weight.T / divisor
        return raw if cap is None else torch.tanh(raw / cap) * cap

    return Parts(
        embed=lambda ids: body.embed_tokens.weight[ids] * scale,
        blocks=[block(i, layer) for i, layer in enumerate(body.layers)],
        final_norm=plain_norm(body.norm),
        unembed=unembed,
    )


def linear(module: Any, x: Tensor) -> Tensor:
    return F.linear(x, module.weight, module.bias)


def gated_mlp(mlp: Any) -> Function:
    if hasattr(mlp, "experts"):
        return lambda x: experts(mlp, x)
    if hasattr(mlp, "gate_up_proj"):  # Phi-3
        return lambda x: linear(mlp.down_proj, _gated(linear(mlp.gate_up_proj, x), mlp.activation_fn))
    return lambda x: linear(mlp.down_proj, _opened(linear(mlp.gate_proj, x), linear(mlp.up_proj, x), mlp.act_fn))


def _gated(both: Tensor, activation: Function) -> Tensor:
    return _opened(*both.chunk(2, -1), activation)


def _opened(gate: Tensor, up: Tensor, activation: Function) -> Tensor:
    return rules.factor(rules.activated(activation, gate)) * rules.factor(up)


def routed_experts(mlp: Any) -> Routed | None:
    if not hasattr(mlp, "experts"):
        return None
    return Routed(len(mlp.experts.down_proj), lambda x: expert_shares(mlp, x))


def experts(mlp: Any, x: Tensor) -> Tensor:
    """The sum of the experts' shares, [T, D]."""
    return expert_shares(mlp, x).sum(0)


def expert_shares(mlp: Any, x: Tensor) -> Tensor:
    """Every expert on every token, [E, T, D], weighted by its probability in the router's top k and 0 outside it."""
    probability = (x @ mlp.gate.weight.T).softmax(-1)  # [T, experts]
    chosen = torch.zeros_like(probability).scatter(-1, probability.topk(mlp.gate.top_k).indices, 1.0)
    weight = probability * chosen
    if getattr(mlp.gate, "norm_topk_prob", True):
        weight = weight / weight.sum(-1, keepdim=True)
    each = mlp.experts
    outputs = [
        _gated(x @ up.T, each.act_fn) @ down.T for up, down in zip(each.gate_up_proj, each.down_proj, strict=True)
    ]
    return torch.stack(outputs) * weight.T[..., None]
