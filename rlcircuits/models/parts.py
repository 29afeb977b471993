"""Where each family of models keeps the parts that attribution needs.

A short table names, for every supported ``model_type``, the modules of a decoder block. Nothing is
guessed: a model that is not in the table, or whose modules do not look as the table says, is
refused with what was looked for. ``checkpoint.verify_stream`` then checks the result by numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.common.devices import to_device_async
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.norms import Norm, epsilon_of, recognise


@dataclass(frozen=True)
class ModuleNames:
    """Module names of one family; paths from the causal LM, or from the block where said so."""

    layers: str = "model.layers"
    final_norm: str = "model.norm"
    # of the block
    attention: str = "self_attn"
    mlp: str = "mlp"
    attention_norm: str | None = "input_layernorm"
    mlp_norm: str | None = "post_attention_layernorm"
    attention_post_norm: str | None = None
    mlp_post_norm: str | None = None
    # of the attention: one name, or the three of q, k and v
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    # features of a fused projection: all q then k then v, or q, k, v head by head
    fused: Literal["stacked", "interleaved"] = "stacked"
    output: str = "o_proj"


_LLAMA = ModuleNames()
_GEMMA = ModuleNames(
    mlp_norm="pre_feedforward_layernorm",
    attention_post_norm="post_attention_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
_OLMO2 = ModuleNames(
    attention_norm=None,
    mlp_norm=None,
    attention_post_norm="post_attention_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
)
_GPT2 = ModuleNames(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    attention="attn",
    attention_norm="ln_1",
    mlp_norm="ln_2",
    projections=("c_attn",),
    output="c_proj",
)
_GPT_NEOX = ModuleNames(
    layers="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    attention="attention",
    projections=("query_key_value",),
    fused="interleaved",
    output="dense",
)

LAYOUTS: dict[str, ModuleNames] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "granite"), _LLAMA),
    "phi3": ModuleNames(projections=("qkv_proj",)),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "olmo2": _OLMO2,
    "gpt2": _GPT2,
    "gpt_neox": _GPT_NEOX,
}


@dataclass(frozen=True)
class Projection:
    """One linear map of the attention's input, and which of its output features are q, k and v.

    features: kind → int64 [heads of that kind, head_dim], the output features of each head. With
    grouped queries there are fewer k and v heads than q heads; query head h uses h // group.
    """

    module: nn.Module
    features: dict[str, Tensor]

    def rows(self, features: Tensor) -> Tensor:
        """The weight rows [len(features), width] that make these output features."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        index = as_index(features, weight.device)
        return weight[:, index].T if isinstance(self.module, Conv1D) else weight[index]


@dataclass(frozen=True)
class Block:
    """The parts of one decoder block. A norm is None where the family has none there."""

    module: nn.Module
    attention: nn.Module
    mlp: nn.Module
    attention_norm: Norm | None
    mlp_norm: Norm | None
    attention_post_norm: Norm | None
    mlp_post_norm: Norm | None
    projections: tuple[Projection, ...]
    output: nn.Module

    def head_output_weight(self, n_heads: int) -> Tensor:
        """The output projection by head: [n_heads, head_dim, width], a view of the weight."""
        weight: Tensor = self.output.weight  # type: ignore[assignment]
        by_feature = weight if isinstance(self.output, Conv1D) else weight.T
        return by_feature.reshape(n_heads, -1, by_feature.shape[1])


@dataclass(frozen=True)
class ModelParts:
    """The parts of a causal language model that write to and read from its residual stream."""

    blocks: tuple[Block, ...]
    final_norm: Norm
    unembedding: nn.Module
    n_heads: int
    n_kv_heads: int
    head_dim: int
    width: int
    vocabulary: int
    context: int | None
    residual_multiplier: float
    parallel: bool
    rotary_switch: int | None
    """The length beyond which the model turns q and k by other factors, in all sequences of a batch."""


@dataclass(frozen=True)
class _Heads:
    """Numbers of query heads and of key/value heads, and the features of each."""

    q: int
    kv: int
    size: int


def as_index(features: Tensor, device: torch.device) -> slice | Tensor:
    """``features`` (any shape) flattened, as a slice where they are consecutive: slices do not copy."""
    flat = features.reshape(-1)
    first, count = int(flat[0]), len(flat)
    if torch.equal(flat, torch.arange(first, first + count)):
        return slice(first, first + count)
    return to_device_async(flat, device)


def locate_parts(model: nn.Module) -> ModelParts:
    """Find the parts of a Hugging Face causal LM.

    Raises RLCircuitsError, saying what was looked for, if the family is unknown or a part is
    missing or has an unexpected shape.
    """
    if hasattr(model, "peft_config"):
        raise RLCircuitsError(f"{type(model).__name__} holds adapters; merge them first: model.merge_and_unload()")
    config = getattr(model, "config", None)
    family = getattr(config, "model_type", None)
    if family not in LAYOUTS:
        raise RLCircuitsError(
            f"{type(model).__name__} has model_type {family!r}, whose residual stream is not mapped; "
            f"looked for one of {', '.join(sorted(LAYOUTS))}"
        )
    assert config is not None
    layout = LAYOUTS[family]
    width = config.hidden_size
    n_heads = config.num_attention_heads
    heads = _Heads(
        q=n_heads,
        kv=getattr(config, "num_key_value_heads", None) or n_heads,
        size=getattr(config, "head_dim", None) or width // n_heads,
    )
    formulas: dict[tuple[type, float | None], Norm] = {}

    def known(module: nn.Module) -> Norm:
        # Modules of one class and eps follow one formula: compare numbers once, not once a block.
        key = (type(module), epsilon_of(module))
        if key not in formulas:
            found = recognise(module, width)
            if found.kind == "other":  # perhaps by its weights
                return found
            formulas[key] = found
        return replace(formulas[key], module=module)

    blocks = []
    for index, module in enumerate(_get(model, layout.layers, family)):  # type: ignore[arg-type, var-annotated]
        where = f"{layout.layers}.{index}"

        def norm(name: str | None, module: nn.Module = module, where: str = where) -> Norm | None:
            return None if name is None else known(_get(module, name, family, where))

        attention = _get(module, layout.attention, family, where)
        where_attention = f"{where}.{layout.attention}"
        projections = _find_projections(attention, layout, heads, width, family, where_attention)
        blocks.append(
            Block(
                module=module,
                attention=attention,
                mlp=_get(module, layout.mlp, family, where),
                attention_norm=norm(layout.attention_norm),
                mlp_norm=norm(layout.mlp_norm),
                attention_post_norm=norm(layout.attention_post_norm),
                mlp_post_norm=norm(layout.mlp_post_norm),
                projections=projections,
                output=_linear(attention, layout.output, (heads.q * heads.size, width), family, where_attention),
            )
        )
    if not blocks:
        raise RLCircuitsError(f"{type(model).__name__} has no layers; at least one is needed")
    unembedding = model.get_output_embeddings()  # type: ignore[operator]
    if unembedding is None:
        raise RLCircuitsError(f"{type(model).__name__} has no output embedding; a causal language model is needed")
    return ModelParts(
        blocks=tuple(blocks),
        final_norm=known(_get(model, layout.final_norm, family)),
        unembedding=unembedding,
        n_heads=heads.q,
        n_kv_heads=heads.kv,
        head_dim=heads.size,
        width=width,
        vocabulary=model.get_input_embeddings().weight.shape[0],  # type: ignore[operator]
        context=getattr(config, "max_position_embeddings", None),
        residual_multiplier=float(getattr(config, "residual_multiplier", 1.0)),
        parallel=family == "gpt_neox" and bool(config.use_parallel_residual),
        rotary_switch=_rotary_switch(config),
    )


def _rotary_switch(config: Any) -> int | None:
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") != "longrope":
        return None
    length: int = rotary.get("original_max_position_embeddings") or config.max_position_embeddings
    return length


def _find_projections(
    attention: nn.Module, layout: ModuleNames, heads: _Heads, width: int, family: str, where: str
) -> tuple[Projection, ...]:
    n_q, n_kv = heads.q * heads.size, heads.kv * heads.size
    q = torch.arange(n_q).view(heads.q, heads.size)
    kv = torch.arange(n_kv).view(heads.kv, heads.size)
    if len(layout.projections) == 3:
        found = []
        for kind, name, features, size in zip("qkv", layout.projections, (q, kv, kv), (n_q, n_kv, n_kv), strict=True):
            module = _linear(attention, name, (width, size), family, where)
            found.append(Projection(module, {kind: features}))
        return tuple(found)
    module = _linear(attention, layout.projections[0], (width, n_q + 2 * n_kv), family, where)
    if layout.fused == "stacked":
        features_of = {"q": q, "k": kv + n_q, "v": kv + n_q + n_kv}
    else:
        by_head = torch.arange(3 * n_q).view(heads.q, 3, heads.size)
        features_of = {kind: by_head[:, i] for i, kind in enumerate("qkv")}
    return (Projection(module, features_of),)


def _get(root: nn.Module, path: str, family: str, where: str = "") -> nn.Module:
    module: object = root
    for name in path.split("."):
        module = getattr(module, name, None)
    if not isinstance(module, nn.Module):
        full = f"{where}.{path}".lstrip(".")
        raise RLCircuitsError(f"a {family} model should have a module {full}, but {type(root).__name__} has none")
    return module


def _linear(root: nn.Module, path: str, shape: tuple[int, int], family: str, where: str) -> nn.Module:
    """The linear layer at ``path``; shape is (inputs, outputs)."""
    module = _get(root, path, family, where)
    if not isinstance(module, nn.Linear | Conv1D):
        raise RLCircuitsError(
            f"{where}.{path} is a {type(module).__name__}; attribution needs a plain nn.Linear or Conv1D there "
            "(merge adapters and load unquantised weights)"
        )
    found = tuple(module.weight.shape) if isinstance(module, Conv1D) else tuple(module.weight.shape)[::-1]
    if found != shape:
        raise RLCircuitsError(
            f"{where}.{path} maps {found[0]} to {found[1]} features; the config says {shape[0]} to {shape[1]}"
        )
    return module
