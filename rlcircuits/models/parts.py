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
from rlcircuits.models.families import LatentNames, ModuleNames
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.find_family import module_names, why_not_mapped
from rlcircuits.models.latent import LatentKV, locate_latent
from rlcircuits.models.layer_kinds import NO_MIXTURE, is_parallel, layer_sublayers, why_no_heads
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
    """

    module: nn.Module
    features: dict[str, Tensor]
    multiplier: float = 1.0

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
        mixer_output: The output projection of the mixer.
        attention_multiplier: What the attention's output is multiplied by before it is added to the stream, besides
            the model's residual multiplier.
        mixer_multiplier: The same of the mixer's output.
        parallel: Whether attention and MLP read the same stream.
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
    latent: LatentKV | None = None
    mlp_beside: nn.Module | None = None
    mixture: Mixture | None = None
    mixer: nn.Module | None = None
    mixer_output: nn.Module | None = None
    attention_multiplier: float = 1.0
    mixer_multiplier: float = 1.0
    parallel: bool = False

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
        n_kv_heads: Key and value heads of an attention.
        head_dim: Features of a head.
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
    heads = head_counts(config)
    if names.latent is not None:  # the heads' sizes of q, k and v differ, and v's is that of their output
        heads = replace(heads, size=config.v_head_dim)
    root = NamedModule(model, "", model.config.model_type)  # type: ignore[union-attr, arg-type]
    norms = Norms()
    named = list(root.child(names.layers).items())
    layers = layer_sublayers(names, config, len(named))
    blocks = tuple(
        _locate_block(block, names, heads, norms, config, sublayers)
        for block, sublayers in zip(named, layers, strict=True)
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
        n_heads=heads.q,
        n_kv_heads=heads.kv,
        head_dim=heads.size,
        width=config.hidden_size,
        vocabulary=model.get_input_embeddings().weight.shape[0],  # type: ignore[operator]
        context=getattr(config, "max_position_embeddings", None),
        residual_multiplier=float(getattr(config, "residual_multiplier", 1.0)),
        rotary_switch=_rotary_switch(config),
        counts_columns=bool(getattr(config, "attn_temperature_tuning", False)),
        no_heads=why_no_heads(names, layers),
        no_experts=_why_no_experts(blocks),
    )


@dataclass(frozen=True)
class HeadCounts:
    """Numbers of query heads and of key and value heads, and the features of each head."""

    q: int
    kv: int
    size: int


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


def head_counts(config: Any) -> HeadCounts:
    """Return the numbers of heads, and their size, by a Hugging Face config."""
    n_heads = config.num_attention_heads
    return HeadCounts(
        q=n_heads,
        kv=getattr(config, "num_key_value_heads", None) or n_heads,
        size=getattr(config, "head_dim", None) or config.hidden_size // n_heads,
    )


def _why_no_experts(blocks: tuple[Block, ...]) -> str | None:
    """Return why experts cannot be nodes of the graph, or None if they can."""
    mixtures = [(i, block, block.mixture) for i, block in enumerate(blocks) if block.mixture is not None]
    for layer, block, mixture in mixtures:
        if block.mlp_post_norm is not None:
            return f"a norm of their sum stands between the experts of mlp.{layer} and the stream"
        if mixture.unknown is not None:
            return f"mlp.{layer}: {mixture.unknown}"
    return None if mixtures else NO_MIXTURE


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
        mlp_beside=beside,
        mixture=None if mlp is None else find_mixture(mlp, beside, names, config),
        mixer=mixer.module if mixer else None,
        mixer_output=mixer.child(names.mixer_output).module if mixer else None,
        attention_multiplier=field(names.attention_out_field),
        mixer_multiplier=field(names.mixer_out_field),
        parallel=is_parallel(names, config),
    )


def _locate_projections(
    attention: NamedModule, names: ModuleNames, heads: HeadCounts, config: Any
) -> tuple[Projection, ...]:
    if names.latent is not None:
        return (_locate_latent_q(attention, names.projections[0], names.latent, config),)
    width, n_q, n_kv = config.hidden_size, heads.q * heads.size, heads.kv * heads.size
    multiplier = 1.0 if names.attention_in_field is None else float(getattr(config, names.attention_in_field))
    if len(names.projections) == 3:
        q = torch.arange(n_q * (2 if names.gated_queries else 1)).view(heads.q, -1)
        kv = torch.arange(n_kv).view(heads.kv, heads.size)
        return tuple(
            Projection(attention.linear(name, width, features.numel()), {kind: features}, multiplier)
            for kind, name, features in zip("qkv", names.projections, (q, kv, kv), strict=True)
        )
    module = attention.linear(names.projections[0], width, n_q + 2 * n_kv)
    return (Projection(module, fused_features(names, heads), multiplier),)


def _locate_latent(attention: NamedModule, names: LatentNames, norms: Norms, config: Any) -> LatentKV:
    norm = norms.of(attention.child(names.kv_norm), config.kv_lora_rank)
    return locate_latent(attention.linear, norm, names, config)


def _locate_latent_q(attention: NamedModule, whole: str, names: LatentNames, config: Any) -> Projection:
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
