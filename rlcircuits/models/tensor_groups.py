"""Group the weights of a model by the module that they belong to, from their names alone.

The names are those of the model's parameters, or those in its files, which differ for some families: Mixtral's files
say ``block_sparse_moe`` and GPT-NeoX's ``embed_out`` where the model says ``mlp`` and ``lm_head``.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal, get_args

from rlcircuits.models.families import FAMILIES

__all__ = ["GROUPS", "Group", "group_of", "is_token_embedding", "layer_of"]

Group = Literal["embeddings", "norms", "attention", "mixer", "MLP", "unembedding", "other"]

GROUPS: tuple[Group, ...] = get_args(Group)
"""The groups, in the order of tables. No weight of a supported language model is in ``other``."""

_TOKEN_EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "embeddings", "word_embeddings"})
_POSITION_EMBEDDINGS = frozenset({"wpe"})
_UNEMBEDDINGS = frozenset({"lm_head", "embed_out"})
# Granite's mixtures in files; those of Gemma 4, beside its MLP.
_MIXTURES = frozenset({"block_sparse_moe", "experts", "router"})
# Nemotron-H calls every sublayer a mixer; what is in it tells which kind it is.
_ANY_SUBLAYER = "mixer"
_MIXER_PARTS = frozenset({"in_proj", "conv1d", "dt_bias", "A_log", "D", "out_proj"})
_ATTENTION_PARTS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
# What a vision-language model has beside its language model.
_VISION = frozenset({"visual", "vision_tower", "vision_model", "multi_modal_projector", "vision_encoder"})
# input_layernorm, q_norm, final_layer_norm, norm_f, ln_1, ln_f, …
_NORM = re.compile(r".*norm(_\d)?|norm_f|ln_\w+")


def group_of(name: str) -> Group:
    """Return the group of a weight.

    Layers that mix tokens without attention (Mamba, linear attention) are in the group ``mixer``. A bias is in the
    group of its module, an expert and its router are in that of the MLP, and the norms of queries and keys are among
    the norms. So is a scalar that multiplies the whole stream. A weight that embeds and unembeds (tied embeddings) has
    the name of the embedding.

    Args:
        name: the weight's dotted name in the model or in its files, such as ``model.layers.0.mlp.up_proj.weight``.

    Returns:
        One of :data:`GROUPS`; ``other`` for a weight of a vision tower, and for a name that no supported family has.
    """
    parts = name.split(".")
    if not _VISION.isdisjoint(parts):
        return "other"
    # First, because a norm may be within an attention.
    scalars = {names.stream_scalar for names in FAMILIES.values()}
    if any(_NORM.fullmatch(part) or part in scalars for part in parts):
        return "norms"
    if _ANY_SUBLAYER in parts:
        inner = parts[parts.index(_ANY_SUBLAYER) + 1 :][:1]
        return "attention" if _ATTENTION_PARTS & set(inner) else "mixer" if _MIXER_PARTS & set(inner) else "MLP"
    # Looked up at each call, since a user may have added a family.
    if any(names.attention in parts for names in FAMILIES.values()):
        return "attention"
    if any(names.mixer in parts for names in FAMILIES.values()):
        return "mixer"
    if not _MIXTURES.isdisjoint(parts) or any(names.mlp in parts for names in FAMILIES.values()):
        return "MLP"
    if not _UNEMBEDDINGS.isdisjoint(parts):
        return "unembedding"
    if is_token_embedding(name) or not _POSITION_EMBEDDINGS.isdisjoint(parts):
        return "embeddings"
    return "other"


def is_token_embedding(name: str) -> bool:
    """Return whether a weight embeds tokens, by its dotted name; the weight of tied embeddings does."""
    return not _TOKEN_EMBEDDINGS.isdisjoint(name.split("."))


def layer_of(name: str) -> int | None:
    """Return the index of the decoder block that a weight is in, by its dotted name; None for a weight in no block."""
    parts = name.split(".")
    if not _VISION.isdisjoint(parts):
        return None
    lists = {names.layers.rpartition(".")[2] for names in FAMILIES.values()}
    within = pairwise(parts[:-1])  # a list of blocks and an index in it, with something in that block behind them
    return next((int(index) for blocks, index in within if blocks in lists and index.isdecimal()), None)
