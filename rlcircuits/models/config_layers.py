"""What a Hugging Face config alone says of a model's layers: their sublayers, heads, experts, fused projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.sublayers import LayerReads, Sublayer, layer_reads
from rlcircuits.models.falcon import falcon_kv_heads
from rlcircuits.models.families import ModuleNames
from rlcircuits.models.find_family import module_names

NO_ATTENTION = (
    "is a layer that mixes tokens without attention: it has one input and no heads that read q, k and v apart"
)
"""Why the heads of a model with a mixer cannot be nodes of an edge graph."""

NO_MIXTURE = "it has no mixture of experts"
"""Why a model whose MLPs are all dense has no experts."""

BEHIND_A_NORM = "a norm of their sum stands between the experts and the stream"
"""Why the experts of a mixture behind a post-norm (Gemma 4) cannot be nodes of an edge graph."""


@dataclass(frozen=True)
class HeadCounts:
    """Numbers of query heads and of key and value heads, and the features of each head."""

    q: int
    kv: int
    size: int


def head_counts(config: Any, layer: int = 0) -> HeadCounts:
    """Return the numbers of a layer's heads, and their size, by a Hugging Face config.

    Args:
        config: The Hugging Face config of the (text) model.
        layer: The layer, which matters where layers differ (Gemma 4).
    """
    config = of_layer(config, layer)
    n_heads = config.num_attention_heads
    is_falcon = config.model_type == "falcon" and not hasattr(config, "num_key_value_heads")
    kv = falcon_kv_heads(config) if is_falcon else getattr(config, "num_key_value_heads", None) or n_heads
    return HeadCounts(
        q=n_heads,
        kv=kv,
        size=getattr(config, "head_dim", None) or config.hidden_size // n_heads,
    )


def of_layer(config: Any, layer: int) -> Any:
    """Return the config of one layer, where layers differ; else the config itself."""
    return config.per_layer_config[layer] if getattr(config, "is_heterogeneous", False) else config


def kv_heads_by_config(config: Any) -> tuple[int, ...]:
    """Return the number of key and value heads of each layer's attention, by a config alone.

    Args:
        config: The Hugging Face config of the (text) model.
    """
    return tuple(head_counts(config, layer).kv for layer in range(config.num_hidden_layers))


def layer_sublayers(names: ModuleNames, config: Any, count: int) -> list[tuple[Sublayer, ...]]:
    """Return the sublayers of each layer of a model, by its config.

    Args:
        names: The family's module names.
        config: The Hugging Face config of the (text) model.
        count: The number of the model's layers.

    Raises:
        RLCircuitsError: the config names another number of layers, or a kind of layer that is not mapped.
    """
    if names.layer_kinds is None:
        return [("attn", "mlp")] * count
    kinds = list(getattr(config, "layer_types", None) or ())
    if len(kinds) != count:
        raise RLCircuitsError(f"config: layer_types names {len(kinds)} layers, but the model has {count}")
    for layer, kind in enumerate(kinds):
        if kind not in names.layer_kinds:
            raise RLCircuitsError(
                f"config: layers.{layer} is a layer of the kind {kind!r}, which is not mapped for {config.model_type}; "
                f"mapped are {', '.join(sorted(names.layer_kinds))}"
            )
    return [names.layer_kinds[kind] for kind in kinds]


def layers_by_config(config: Any) -> tuple[LayerReads, ...]:
    """Return the sublayers of each layer of a mapped family, as ``ModelParts.layers`` has them, by a config alone.

    Args:
        config: The model's Hugging Face config.

    Raises:
        RLCircuitsError: as :func:`layer_sublayers` does.
    """
    names, text = module_names(config), config.get_text_config()
    assert names is not None, "a mapped family"
    layers = layer_sublayers(names, text, text.num_hidden_layers)
    return tuple(layer_reads(sublayers, parallel=is_parallel(names, text)) for sublayers in layers)


def is_parallel(names: ModuleNames, config: Any) -> bool:
    """Return whether attention and MLP of a block read the same stream."""
    if names.mlp_norm is not None and names.mlp_norm == names.attention_norm:
        return True
    return names.parallel_field is not None and bool(getattr(config, names.parallel_field))


def no_heads_by_config(config: Any) -> str | None:
    """Return why heads cannot be nodes of the graph, as ``ModelParts.no_heads`` says it, by a config alone.

    Args:
        config: The model's Hugging Face config.

    Raises:
        RLCircuitsError: as :func:`layer_sublayers` does.
    """
    names, text = module_names(config), config.get_text_config()
    return None if names is None else why_no_heads(names, layer_sublayers(names, text, text.num_hidden_layers))


def why_no_heads(names: ModuleNames, layers: list[tuple[Sublayer, ...]]) -> str | None:
    """Return why heads cannot be nodes of the graph of these layers, or None if they can."""
    mixer = next((layer for layer, sublayers in enumerate(layers) if "mixer" in sublayers), None)
    return None if mixer is None else f"mixer.{mixer} {NO_ATTENTION}"


def why_no_experts(config: Any) -> str | None:
    """Return why experts cannot be nodes of a model's graph as far as its config says, or None if they may.

    Args:
        config: The model's Hugging Face config.
    """
    text = config.get_text_config()
    counts = (getattr(text, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    if not any(counts):
        return NO_MIXTURE
    names = module_names(config)
    return BEHIND_A_NORM if names is not None and names.mlp_post_norm is not None else None


def check_nodes(name: str, config: Any, granularity: str) -> None:
    """Raise RLCircuitsError, by a config alone, for heads or experts that a model's graph cannot have.

    Args:
        name: The model's, for the message.
        config: Its Hugging Face config.
        granularity: The nodes that are wanted.
    """
    if granularity == "sublayer":
        return
    reason = why_no_experts(config) if granularity == "expert" else no_heads_by_config(config)
    if reason is not None:
        raise RLCircuitsError(f"granularity is {granularity!r}, which {name} cannot have: {reason}; use 'sublayer'")


def fused_features(names: ModuleNames, heads: HeadCounts) -> dict[str, Tensor]:
    """Return which output features of a fused projection are q, k and v.

    Args:
        names: The family's module names; its ``fused`` says in which order the features are.
        heads: The numbers of heads.

    Returns:
        ``q``, ``k``, ``v`` → int64 [heads of that kind, head_dim].
    """
    n_q, n_kv = heads.q * heads.size, heads.kv * heads.size
    if names.fused == "stacked":
        kv = torch.arange(n_kv).view(heads.kv, heads.size)
        return {"q": torch.arange(n_q).view(heads.q, heads.size), "k": kv + n_q, "v": kv + n_q + n_kv}
    if names.fused == "grouped":
        by_group = torch.arange(n_q + 2 * n_kv).view(heads.kv, -1, heads.size)
        q = by_group[:, :-2].reshape(heads.q, heads.size)
        return {"q": q, "k": by_group[:, -2], "v": by_group[:, -1]}
    by_head = torch.arange(3 * n_q).view(heads.q, 3, heads.size)
    return {kind: by_head[:, i] for i, kind in enumerate("qkv")}
