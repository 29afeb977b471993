"""Locate the parts of a Hugging Face causal LM that attribution needs.

1. The family's module names are looked up in the table of ``rlcircuits.models.families``.
2. Each named module is found, and its shape compared with the config (:func:`locate_parts`). Nothing is guessed: a
   module that is missing or has another shape is an error.
3. The formula of each norm is recognised by numbers (``rlcircuits.models.norms``).

The stream check (``rlcircuits.capture.stream_check``) then shows by numbers that the parts are complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.sublayers import SUBLAYERS, LayerExperts, LayerReads, Sublayer, layer_reads
from rlcircuits.models.config_layers import (
    BEHIND_A_NORM,
    NO_MIXTURE,
    HeadCounts,
    fused_features,
    head_counts,
    is_parallel,
    layer_sublayers,
    why_no_heads,
)
from rlcircuits.models.families import LatentNames, ModuleNames
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.find_family import module_names, why_not_mapped
from rlcircuits.models.latent import NO_HEAD_KEYS, Latent, can_part_keys, locate_latent, locate_latent_q
from rlcircuits.models.mixtures import Mixture, find_mixture
from rlcircuits.models.named_modules import NamedModule, Norms
from rlcircuits.models.norms import Norm


@dataclass(frozen=True)
class Projection:
    """A linear layer that computes q, k or v, or all three.

    Args:
        module: The linear layer, whose input is the norm's output.
        features: ``q``, ``k``, ``v``, as far as the layer computes them → int64 [heads of that kind, head_dim], the
            output features of each head. With grouped queries there are fewer k and v heads than query heads: query
            head h uses k and v head h // (query heads a k and v head). Where q has a gate, it is among its features.
        multiplier: What the norm's output is multiplied by before the layer reads it.
        split_at: Where k and v are one layer's output, the norm that reads it as the kind in ``features``, head by
            head: [batch, pos, heads, head_dim].
    """

    module: nn.Module
    features: dict[str, Tensor]
    multiplier: float = 1.0
    split_at: nn.Module | None = None

    def rows(self, features: Tensor) -> Tensor:
        """Return the rows that compute these output features (any shape) from the norm's output: [features, width]."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        index = as_index(features, weight.device)
        rows = weight[:, index].T if isinstance(self.module, Conv1D) else weight[index]
        return rows if self.multiplier == 1 else rows * self.multiplier


@dataclass(frozen=True)
class Block:
    """The parts of one decoder block. What the block does not have is None.

    Args:
        mlp_beside: A module that reads what the MLP reads, and whose output is added to the MLP's.
        mixture: The experts of the MLP.
        mixer: The module that mixes tokens without attention. It is behind the same norm as the attention.
        attention_norm: The norm before attention and mixer.
        projections: The projections of the attention; none without one.
        output: The output projection of the attention.
        latent: From the norm's output to k and v, of which ``projections`` then has none.
        latent_q: From the norm's output to q, where q has a latent; ``projections`` then has its first layer.
        mixer_output: The output projection of the mixer.
        attention_multiplier: What the attention's output is multiplied by before it is added to the stream, besides
            the model's residual multiplier.
        mixer_multiplier: The same of the mixer's output.
        parallel: Whether attention and MLP read the same stream.
        mlp_also_reads: Modules that read the stream beside the norm before the MLP, for the MLP's output.
        stream_scalar: A tensor of one number by which the block multiplies the whole stream at its end.
        n_kv_heads: Key and value heads of the attention.
        head_dim: Features of a head; of a head's output where k and v differ.
    """

    module: nn.Module
    attention: nn.Module | None
    mlp: nn.Module | None
    attention_norm: Norm | None
    mlp_norm: Norm | None
    attention_post_norm: Norm | None
    mlp_post_norm: Norm | None
    projections: tuple[Projection, ...]
    output: nn.Module | None
    latent: Latent | None = None
    latent_q: Latent | None = None
    mlp_beside: nn.Module | None = None
    mixture: Mixture | None = None
    mixer: nn.Module | None = None
    mixer_output: nn.Module | None = None
    attention_multiplier: float = 1.0
    mixer_multiplier: float = 1.0
    parallel: bool = False
    mlp_also_reads: tuple[nn.Module, ...] = ()
    stream_scalar: Tensor | None = None
    n_kv_heads: int = 0
    head_dim: int = 0

    @property
    def reads(self) -> LayerReads:
        """The block's sublayers, in groups that read the same stream."""
        modules = {"attn": self.attention, "mixer": self.mixer, "mlp": self.mlp}
        found = tuple(sublayer for sublayer in SUBLAYERS if modules[sublayer] is not None)
        return layer_reads(found, parallel=self.parallel)

    @property
    def shares_norm(self) -> bool:
        """Whether attention and MLP read the output of one norm."""
        norms = (self.attention_norm, self.mlp_norm)
        return all(norm is not None for norm in norms) and len({id(norm.module) for norm in norms if norm}) == 1

    @property
    def mlp_modules(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs add up to what the MLP writes."""
        return tuple(module for module in (self.mlp, self.mlp_beside) if module is not None)

    def head_output_weight(self, n_heads: int) -> Tensor:
        """Return the output projection's weight by head, [n_heads, head_dim, width], as a view."""
        assert self.output is not None, "only an attention has heads"
        weight: Tensor = self.output.weight  # type: ignore[assignment]
        by_feature = weight if isinstance(self.output, Conv1D) else weight.T
        return by_feature.reshape(n_heads, -1, by_feature.shape[1])


@dataclass(frozen=True)
class ModelParts:
    """The parts of a causal LM that write to and read from its residual stream.

    Args:
        names: The names by which the parts were found.
        body: The module from token ids to the final norm's output, which holds the blocks; of a vision-language model
            its language model's.
        blocks: The decoder blocks.
        final_norm: The norm before the unembedding.
        unembedding: The linear layer from the stream to the logits.
        n_heads: Query heads of an attention.
        n_kv_heads: Key and value heads of an attention, the first layer's where layers differ.
        head_dim: Features of a head, the first layer's where layers differ.
        width: Features of the residual stream.
        vocabulary: Number of token ids.
        context: Most tokens that the model can read; None if it sets no limit.
        residual_multiplier: What attention and MLP outputs are multiplied by before they are added to the stream.
        rotary_switch: The sequence length beyond which the model rotates q and k by other factors, in all sequences of
            the batch (longrope). None if it has one set of factors.
        counts_columns: Whether the model counts positions from the first column of a batch, padding included, so that
            padding on the left changes what it computes (Llama 4's attention temperature).
        no_heads: Why heads cannot be nodes of the graph; None if they can.
        no_experts: The same of the experts of a mixture.
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
    rotary_switch: int | None
    counts_columns: bool
    no_heads: str | None
    no_experts: str | None

    @property
    def layers(self) -> tuple[LayerReads, ...]:
        """The sublayers of each block, in groups that read the same stream."""
        return tuple(block.reads for block in self.blocks)

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """The key and value heads of each block's attention."""
        return tuple(block.n_kv_heads for block in self.blocks)

    @property
    def experts(self) -> LayerExperts:
        """The experts of each block's MLP, or None for an MLP that is no mixture."""
        return tuple(None if block.mixture is None else block.mixture.size for block in self.blocks)


def locate_parts(model: nn.Module) -> ModelParts:
    """Return the parts of a Hugging Face causal LM.

    Raises:
        RLCircuitsError: if the model's family is not supported, or a part is missing or has an unexpected shape. The
            message names what was looked for.
    """
    names = _module_names(model)
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    root = NamedModule(model, "", model.config.model_type)  # type: ignore[union-attr, arg-type]
    norms = Norms()
    named = list(root.child(names.layers).items())
    layers = layer_sublayers(names, config, len(named))
    by_layer = [_heads_of(names, config, layer) for layer in range(len(named))]
    blocks = tuple(
        _locate_block(block, names, heads, norms, config, sublayers)
        for block, heads, sublayers in zip(named, by_layer, layers, strict=True)
    )
    if not blocks:
        raise RLCircuitsError(f"{type(model).__name__} has no layers; at least one is needed")
    unembedding = model.get_output_embeddings()  # type: ignore[operator]
    if unembedding is None:
        raise RLCircuitsError(f"{type(model).__name__} has no output embedding; a causal language model is needed")
    return ModelParts(
        names=names,
        body=root.child(names.layers.rpartition(".")[0]).module,
        blocks=blocks,
        final_norm=norms.of(root.child(names.final_norm), config.hidden_size),
        unembedding=unembedding,
        n_heads=by_layer[0].q,
        n_kv_heads=by_layer[0].kv,
        head_dim=by_layer[0].size,
        width=config.hidden_size,
        vocabulary=model.get_input_embeddings().weight.shape[0],  # type: ignore[operator]
        context=getattr(config, "max_position_embeddings", None),
        residual_multiplier=float(getattr(config, "residual_multiplier", 1.0)),
        rotary_switch=_rotary_switch(config),
        counts_columns=bool(getattr(config, "attn_temperature_tuning", False)),
        no_heads=why_no_heads(names, layers) or _no_head_keys(blocks),
        no_experts=_why_no_experts(blocks),
    )


def _module_names(model: nn.Module) -> ModuleNames:
    """Return the module names of the model's family. Raises RLCircuitsError for one that is not in the table."""
    if hasattr(model, "peft_config"):
        raise RLCircuitsError(f"{type(model).__name__} holds adapters; merge them first: model.merge_and_unload()")
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "model_type"):
        raise RLCircuitsError(f"{type(model).__name__} has no Hugging Face config, which tells its family")
    names = module_names(config)
    if names is None:
        raise RLCircuitsError(f"{type(model).__name__}: {why_not_mapped(config)}", longest=2000)
    return names


def _no_head_keys(blocks: tuple[Block, ...]) -> str | None:
    """Return why heads cannot be nodes of latent attentions, or None if they can."""
    latent = (block.attention for block in blocks if block.attention is not None and block.latent is not None)
    return None if all(can_part_keys(attention) for attention in latent) else NO_HEAD_KEYS


def _heads_of(names: ModuleNames, config: Any, layer: int) -> HeadCounts:
    heads = head_counts(config, layer)
    if names.latent is not None:  # the heads' sizes of q, k and v differ, and v's is that of their output
        heads = replace(heads, size=config.v_head_dim)
    return heads


def _why_no_experts(blocks: tuple[Block, ...]) -> str | None:
    """Return why experts cannot be nodes of the graph, or None if they can."""
    for layer, block in enumerate(blocks):
        # Gemma 4's experts read the stream beside the MLP, and are normed before they are added to it.
        if block.mlp_also_reads or (block.mixture is not None and block.mlp_post_norm is not None):
            return f"mlp.{layer}: {BEHIND_A_NORM}"
        if block.mixture is not None and block.mixture.unknown is not None:
            return f"mlp.{layer}: {block.mixture.unknown}"
    return None if any(block.mixture is not None for block in blocks) else NO_MIXTURE


def _locate_block(
    block: NamedModule,
    names: ModuleNames,
    heads: HeadCounts,
    norms: Norms,
    config: Any,
    sublayers: tuple[Sublayer, ...],
) -> Block:
    width = config.hidden_size
    has_attention, has_mixer, has_mlp = (sublayer in sublayers for sublayer in SUBLAYERS)

    def norm(name: str | None, is_there: bool) -> Norm | None:
        return norms.of(block.child(name), width) if is_there and name is not None else None

    def field(name: str | None) -> float:
        return 1.0 if name is None else float(getattr(config, name))

    attention = block.child(names.attention) if has_attention else None
    mixer = block.child(names.mixer) if has_mixer and names.mixer is not None else None
    mlp = block.child(names.mlp).module if has_mlp else None
    beside = block.child_if_there(names.mlp_beside) if has_mlp else None
    return Block(
        module=block.module,
        attention=attention.module if attention else None,
        mlp=mlp,
        attention_norm=norm(names.attention_norm, has_attention or has_mixer),
        mlp_norm=norm(names.mlp_norm, has_mlp),
        attention_post_norm=norm(names.attention_post_norm, has_attention),
        mlp_post_norm=norm(names.mlp_post_norm, has_mlp),
        projections=_locate_projections(attention, names, heads, config) if attention else (),
        output=attention.linear(names.output, heads.q * heads.size, width) if attention else None,
        latent=_locate_latent(attention, names.latent, norms, config) if attention and names.latent else None,
        latent_q=_locate_latent_q(attention, names.latent, norms, config) if attention and names.latent else None,
        mlp_beside=beside,
        mixture=None if mlp is None else find_mixture(mlp, beside, names, config),
        mixer=mixer.module if mixer else None,
        mixer_output=mixer.child(names.mixer_output).module if mixer else None,
        attention_multiplier=field(names.attention_out_field),
        mixer_multiplier=field(names.mixer_out_field),
        parallel=is_parallel(names, config),
        mlp_also_reads=_located(block, names.mlp_also_reads) if has_mlp else (),
        stream_scalar=None if names.stream_scalar is None else block.tensor(names.stream_scalar),
        n_kv_heads=heads.kv,
        head_dim=heads.size,
    )


def _located(block: NamedModule, names: tuple[str, ...]) -> tuple[nn.Module, ...]:
    """Return the modules of these names that the block has."""
    found = (block.child_if_there(name) for name in names)
    return tuple(module for module in found if module is not None)


def _locate_projections(
    attention: NamedModule, names: ModuleNames, heads: HeadCounts, config: Any
) -> tuple[Projection, ...]:
    if names.latent is not None:
        return (_first_to_q(attention, names.projections[0], names.latent, config),)
    width, n_q, n_kv = config.hidden_size, heads.q * heads.size, heads.kv * heads.size
    multiplier = 1.0 if names.attention_in_field is None else float(getattr(config, names.attention_in_field))
    if len(names.projections) == 3:
        q = torch.arange(n_q * (2 if names.gated_queries else 1)).view(heads.q, -1)
        kv = torch.arange(n_kv).view(heads.kv, heads.size)
        if names.split_at is not None and attention.child_if_there(names.projections[2]) is None:
            to_q = Projection(attention.linear(names.projections[0], width, q.numel()), {"q": q}, multiplier)
            to_kv = attention.linear(names.projections[1], width, n_kv)
            k, v = (Projection(to_kv, {kind: kv}, multiplier, attention.child(norm).module)
                    for kind, norm in zip("kv", names.split_at, strict=True))  # fmt: skip
            return to_q, k, v
        return tuple(
            Projection(attention.linear(name, width, features.numel()), {kind: features}, multiplier)
            for kind, name, features in zip("qkv", names.projections, (q, kv, kv), strict=True)
        )
    module = attention.linear(names.projections[0], width, n_q + 2 * n_kv)
    return (Projection(module, fused_features(names, heads), multiplier),)


def _locate_latent(attention: NamedModule, names: LatentNames, norms: Norms, config: Any) -> Latent:
    norm = norms.of(attention.child(names.kv_norm), config.kv_lora_rank)
    return locate_latent(attention.linear, norm, names, config)


def _locate_latent_q(attention: NamedModule, names: LatentNames, norms: Norms, config: Any) -> Latent | None:
    """Return the way to q through its latent; None if q has no latent."""
    if config.q_lora_rank is None:
        return None
    norm = norms.of(attention.child(names.q_norm), config.q_lora_rank)
    return locate_latent_q(attention.linear, norm, names, config)


def _first_to_q(attention: NamedModule, whole: str, names: LatentNames, config: Any) -> Projection:
    """Return the first layer on the way to q: that to q's latent, or that to q itself if q has no latent."""
    size, heads = config.q_lora_rank, config.num_attention_heads
    if size is not None:
        return Projection(attention.linear(names.q_down, config.hidden_size, size), {"q": torch.arange(size)[None]})
    size = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    return Projection(attention.linear(whole, config.hidden_size, size), {"q": torch.arange(size).view(heads, -1)})


def _rotary_switch(config: Any) -> int | None:
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type") != "longrope":
        return None
    length: int = rotary.get("original_max_position_embeddings") or config.max_position_embeddings
    return length
