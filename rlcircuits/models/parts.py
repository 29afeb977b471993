"""Locate the parts of a Hugging Face causal LM that attribution needs.

1. The family's module names are looked up in the table of ``rlcircuits.models.families``.
2. Each named module is found, and its shape compared with the config (:func:`locate_parts`). Nothing is guessed: a
   module that is missing or has another shape is an error.
3. The formula of each norm is recognised by numbers (``rlcircuits.models.norms``).

The stream check (``rlcircuits.capture.stream_check``) then shows by numbers that the parts are complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.families import FAMILIES, REFUSED, LatentNames, ModuleNames
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.latent import SHARED_KEY, LatentKV, locate_latent
from rlcircuits.models.norms import Norm, epsilon_of, recognise


@dataclass(frozen=True)
class Projection:
    """A linear layer that computes q, k or v, or all three.

    Args:
        module: The linear layer, whose input is the norm's output.
        features: ``q``, ``k``, ``v``, as far as the layer computes them → int64 [heads of that kind, head_dim], the
            output features of each head. With grouped queries there are fewer k and v heads than query heads: query
            head h uses k and v head h // (query heads a k and v head).
    """

    module: nn.Module
    features: dict[str, Tensor]

    def rows(self, features: Tensor) -> Tensor:
        """Return the rows of the weight that compute these output features (any shape): [features, width]."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        index = as_index(features, weight.device)
        return weight[:, index].T if isinstance(self.module, Conv1D) else weight[index]


@dataclass(frozen=True)
class Block:
    """The parts of one decoder block. A norm that the family lacks is None."""

    module: nn.Module
    attention: nn.Module
    mlp: nn.Module
    attention_norm: Norm | None
    mlp_norm: Norm | None
    attention_post_norm: Norm | None
    mlp_post_norm: Norm | None
    projections: tuple[Projection, ...]
    output: nn.Module
    latent: LatentKV | None = None
    """From the norm's output to k and v, of which ``projections`` then has none."""

    def head_output_weight(self, n_heads: int) -> Tensor:
        """Return the output projection's weight by head, [n_heads, head_dim, width], as a view."""
        weight: Tensor = self.output.weight  # type: ignore[assignment]
        by_feature = weight if isinstance(self.output, Conv1D) else weight.T
        return by_feature.reshape(n_heads, -1, by_feature.shape[1])


@dataclass(frozen=True)
class ModelParts:
    """The parts of a causal LM that write to and read from its residual stream.

    Args:
        names: The names by which the parts were found.
        body: The module from the token ids to the final norm's output: what holds the blocks.
        blocks: The decoder blocks.
        final_norm: The norm before the unembedding.
        unembedding: The linear layer from the stream to the logits.
        n_heads: Query heads of an attention.
        n_kv_heads: Key and value heads of an attention.
        head_dim: Features of a head.
        width: Features of the residual stream.
        vocabulary: Number of token ids.
        context: Most tokens that the model can read; None if it sets no limit.
        residual_multiplier: What attention and MLP outputs are multiplied by before they are added to the stream.
        parallel: Whether attention and MLP of a block read the same stream.
        rotary_switch: The sequence length beyond which the model rotates q and k by other factors, in all sequences of
            the batch (longrope). None if it has one set of factors.
        counts_columns: Whether the model counts positions from the first column of a batch, padding included, so that
            padding on the left changes what it computes (Llama 4's attention temperature).
        no_heads: Why heads cannot be nodes of the graph; None if they can.
    """

    names: ModuleNames
    body: nn.Module
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
    counts_columns: bool
    no_heads: str | None


def locate_parts(model: nn.Module) -> ModelParts:
    """Return the parts of a Hugging Face causal LM.

    Raises:
        RLCircuitsError: if the model's family is not supported, or a part is missing or has an unexpected shape. The
            message names what was looked for.
    """
    names = _module_names(model)
    config: Any = model.config
    heads = head_counts(config)
    if names.latent is not None:  # the heads' sizes of q, k and v differ, and v's is that of their output
        heads = replace(heads, size=config.v_head_dim)
    root = _Named(model, "", config.model_type)
    norms = _Norms()
    blocks = [_locate_block(block, names, heads, norms, config) for block in root.child(names.layers).items()]
    if not blocks:
        raise RLCircuitsError(f"{type(model).__name__} has no layers; at least one is needed")
    unembedding = model.get_output_embeddings()  # type: ignore[operator]
    if unembedding is None:
        raise RLCircuitsError(f"{type(model).__name__} has no output embedding; a causal language model is needed")
    return ModelParts(
        names=names,
        body=root.child(names.layers.rpartition(".")[0]).module,
        blocks=tuple(blocks),
        final_norm=norms.of(root.child(names.final_norm), config.hidden_size),
        unembedding=unembedding,
        n_heads=heads.q,
        n_kv_heads=heads.kv,
        head_dim=heads.size,
        width=config.hidden_size,
        vocabulary=model.get_input_embeddings().weight.shape[0],  # type: ignore[operator]
        context=getattr(config, "max_position_embeddings", None),
        residual_multiplier=float(getattr(config, "residual_multiplier", 1.0)),
        parallel=names.parallel_field is not None and bool(getattr(config, names.parallel_field)),
        rotary_switch=_rotary_switch(config),
        counts_columns=bool(getattr(config, "attn_temperature_tuning", False)),
        no_heads=None if names.latent is None else SHARED_KEY,
    )


@dataclass(frozen=True)
class HeadCounts:
    """Numbers of query heads and of key and value heads, and the features of each head."""

    q: int
    kv: int
    size: int


@dataclass(frozen=True)
class _Named:
    """A module of a model, with its path and the model's family for error messages."""

    module: nn.Module
    path: str
    family: str

    def child(self, path: str) -> _Named:
        """Return the module at a dotted path below this one. Raises RLCircuitsError if there is none."""
        module: object = self.module
        for name in path.split("."):
            module = getattr(module, name, None)
        full = f"{self.path}.{path}".lstrip(".")
        if not isinstance(module, nn.Module):
            raise RLCircuitsError(
                f"a {self.family} model should have a module {full}, but {type(self.module).__name__} has none"
            )
        return _Named(module, full, self.family)

    def items(self) -> Iterator[_Named]:
        """Yield the items of this module, which is a list of modules."""
        for index, module in enumerate(self.module):  # type: ignore[arg-type, var-annotated]
            yield _Named(module, f"{self.path}.{index}", self.family)

    def linear(self, name: str, inputs: int, outputs: int) -> nn.Module:
        """Return the linear layer of this name. Raises RLCircuitsError if it is of another class or shape."""
        found = self.child(name)
        module = found.module
        if not isinstance(module, nn.Linear | Conv1D):
            raise RLCircuitsError(
                f"{found.path} is a {type(module).__name__}; attribution needs a plain nn.Linear or Conv1D there "
                "(merge adapters and load unquantised weights)"
            )
        shape = tuple(module.weight.shape) if isinstance(module, Conv1D) else tuple(module.weight.shape)[::-1]
        if shape != (inputs, outputs):
            raise RLCircuitsError(
                f"{found.path} maps {shape[0]} to {shape[1]} features; the config says {inputs} to {outputs}"
            )
        return module


class _Norms:
    """Recognises the norms of one model, whose formulas are compared once for each class and epsilon."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, float | None, int], Norm] = {}

    def of(self, named: _Named, width: int) -> Norm:
        """Return the norm of a module that normalises so many features."""
        key = (type(named.module), epsilon_of(named.module), width)
        if key not in self._known:
            found = recognise(named.module, width)
            if found.kind == "other":  # a weight of zero hides the formula, and another module's weight may not be zero
                return found
            self._known[key] = found
        return replace(self._known[key], module=named.module)


def _module_names(model: nn.Module) -> ModuleNames:
    """Return the module names of the model's family. Raises RLCircuitsError for one that is not in the table."""
    if hasattr(model, "peft_config"):
        raise RLCircuitsError(f"{type(model).__name__} holds adapters; merge them first: model.merge_and_unload()")
    family = getattr(getattr(model, "config", None), "model_type", None)
    if family in FAMILIES:
        return FAMILIES[family]
    if family in REFUSED:
        raise RLCircuitsError(
            f"{type(model).__name__} has model_type {family!r}, which is not supported: {REFUSED[family]}"
        )
    raise RLCircuitsError(
        f"{type(model).__name__} has model_type {family!r}, whose residual stream is not mapped; "
        f"looked for one of {', '.join(sorted(FAMILIES))}; rlcircuits.register_family adds another"
    )


def head_counts(config: Any) -> HeadCounts:
    """Return the numbers of heads, and their size, by a Hugging Face config."""
    n_heads = config.num_attention_heads
    return HeadCounts(
        q=n_heads,
        kv=getattr(config, "num_key_value_heads", None) or n_heads,
        size=getattr(config, "head_dim", None) or config.hidden_size // n_heads,
    )


def _locate_block(block: _Named, names: ModuleNames, heads: HeadCounts, norms: _Norms, config: Any) -> Block:
    width = config.hidden_size

    def norm(name: str | None) -> Norm | None:
        return None if name is None else norms.of(block.child(name), width)

    attention, latent = block.child(names.attention), None
    if names.latent is None:
        projections = _locate_projections(attention, names, heads, width)
    else:
        latent_norm = norms.of(attention.child(names.latent.kv_norm), config.kv_lora_rank)
        latent = locate_latent(attention.linear, latent_norm, names.latent, config)
        projections = (_locate_latent_q(attention, names.projections[0], names.latent, config),)
    return Block(
        module=block.module,
        attention=attention.module,
        mlp=block.child(names.mlp).module,
        attention_norm=norm(names.attention_norm),
        mlp_norm=norm(names.mlp_norm),
        attention_post_norm=norm(names.attention_post_norm),
        mlp_post_norm=norm(names.mlp_post_norm),
        projections=projections,
        output=attention.linear(names.output, heads.q * heads.size, width),
        latent=latent,
    )


def _locate_projections(attention: _Named, names: ModuleNames, heads: HeadCounts, width: int) -> tuple[Projection, ...]:
    n_q, n_kv = heads.q * heads.size, heads.kv * heads.size
    q = torch.arange(n_q).view(heads.q, heads.size)
    kv = torch.arange(n_kv).view(heads.kv, heads.size)
    if len(names.projections) == 3:
        return tuple(
            Projection(attention.linear(name, width, features.numel()), {kind: features})
            for kind, name, features in zip("qkv", names.projections, (q, kv, kv), strict=True)
        )
    module = attention.linear(names.projections[0], width, n_q + 2 * n_kv)
    return (Projection(module, fused_features(names, heads)),)


def _locate_latent_q(attention: _Named, whole: str, names: LatentNames, config: Any) -> Projection:
    """Return the first layer on the way to q: that to q's latent, or that to q itself if q has no latent."""
    size = config.q_lora_rank
    name = whole if size is None else names.q_down
    if size is None:
        size = config.num_attention_heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    return Projection(attention.linear(name, config.hidden_size, size), {"q": torch.arange(size)[None]})


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
    by_head = torch.arange(3 * n_q).view(heads.q, 3, heads.size)
    return {kind: by_head[:, i] for i, kind in enumerate("qkv")}


def _rotary_switch(config: Any) -> int | None:
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") != "longrope":
        return None
    length: int = rotary.get("original_max_position_embeddings") or config.max_position_embeddings
    return length
