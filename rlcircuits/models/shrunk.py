"""Build a tiny random model of an architecture from its config alone, so that the architecture can be checked.

1. The config is shrunk (:func:`shrink`): few layers, heads, experts and tokens. What tells one kind of layer,
   attention, mixer or MLP from another is kept: each kind of layer that the config lists occurs, and so do grouped
   queries, the size of a head, soft-caps and multipliers.
2. The weights are drawn anew (:func:`_draw`). transformers initialises norms to one and biases to zero, and a forgotten
   norm or bias would then change nothing.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.models.find_family import auto_class
from rlcircuits.models.quiet import quiet

__all__ = ["shrink", "tiny_model"]

_VOCABULARY = 512
_KV_HEADS = 2
_EXPERTS = 8
_LARGEST_INNER = 128
_FEWEST_LAYERS, _MOST_LAYERS = 2, 24
_MOST_KINDS = 8

_INNER = (
    "intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size",
    "n_inner", "intermediate_size_mlp", "moe_shared_expert_intermediate_size", "moe_latent_size",
    "prefix_dense_intermediate_size", "ffn_hidden_size",
)  # fmt: skip
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
_EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
_EXPERT_GROUPS = ("n_group", "topk_group")
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")


def tiny_model(config: Any, *, trust_remote_code: bool = False) -> Any:
    """Return a random causal LM in float32 on the CPU, of a config's architecture but shrunk.

    The same config gives the same weights. The global random state does not change.

    Args:
        config: A transformers config, which is not changed.
        trust_remote_code: Whether the repository's Python code may be run.

    Raises:
        RLCircuitsError: if no causal LM can be built from the config.
    """
    errors = []
    # A family may have sizes that depend on each other in a way of its own. Then only the layers are made fewer.
    for layers_only in (False, True):
        try:
            small = shrink(config, layers_only=layers_only)
            with torch.random.fork_rng(devices=[]), quiet():
                model = auto_class(small).from_config(
                    small,
                    attn_implementation="eager" if getattr(small, "attn_logit_softcapping", None) else None,
                    dtype=torch.float32,
                    trust_remote_code=trust_remote_code,
                )
                _draw(model)
                model = model.eval()
                _ = model(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=False).logits
        except Exception as error:  # transformers raises errors of many classes for sizes that do not fit
            errors.append(one_line(error))
        else:
            return model
    raise RLCircuitsError(f"no tiny model of this architecture can be built from the config: {errors[-1]}")


def shrink(config: Any, *, layers_only: bool = False) -> Any:
    """Return a copy of a config with few layers, heads, experts and tokens.

    Args:
        config: A transformers config.
        layers_only: Make only the layers fewer.
    """
    small = copy.deepcopy(config)
    text = small.get_text_config()
    _shrink_layers(text)
    if not layers_only:
        heads = text.num_attention_heads
        _shrink_heads(text)
        _shrink_mixers(text, text.num_attention_heads, heads)
        _shrink_mlps(text)
        _shrink_vocabulary(text)
    # Towers of other modalities, which no text goes through.
    for name in small.sub_configs:
        other = getattr(small, name, None)
        if other is not None and other is not text and isinstance(getattr(other, "num_hidden_layers", None), int):
            other.num_hidden_layers = min(other.num_hidden_layers, 1)
    return small


def _shrink_layers(text: Any) -> None:
    """Keep the first layers: at least two, and so many that each kind of layer occurs."""
    total = text.num_hidden_layers
    lists = {
        name: value for name, value in vars(text).items() if isinstance(value, list | tuple) and len(value) == total
    }
    wanted = max(_FEWEST_LAYERS, *(_prefix_with_all(value) for value in lists.values()), 0)
    kept = min(total, _MOST_LAYERS, max(wanted, getattr(text, "decoder_sparse_step", None) or 0))
    varied = _varied(text)
    text.num_hidden_layers = kept
    if varied:
        text.per_layer_config = dict(enumerate(varied[:kept]))
    for name, value in lists.items():
        setattr(text, name, value[:kept])
    if (dense := getattr(text, "first_k_dense_replace", None)) is not None:
        text.first_k_dense_replace = min(dense, 1)
    if getattr(text, "mlp_only_layers", None):
        text.mlp_only_layers = [layer for layer in text.mlp_only_layers if layer < kept]


def _varied(text: Any) -> list[dict[str, Any]]:
    """Return the fields of each layer that layers may have of their own (Gemma 4's heads); none if there are none."""
    if not getattr(text, "is_heterogeneous", False):
        return []
    return [{name: getattr(layer, name) for name in text.per_layer_attributes} for layer in text.per_layer_config]


def _prefix_with_all(values: list[Any] | tuple[Any, ...]) -> int:
    """Return the length of the shortest prefix that has every value of a list, if there are few different ones."""
    firsts = {repr(value): index for index, value in reversed(list(enumerate(values)))}
    return max(firsts.values(), default=0) + 1 if len(firsts) <= _MOST_KINDS else 0


def _shrink_heads(text: Any) -> None:
    """Keep two key/value heads and the query heads that share them; the size of a head stays."""
    heads, width = text.num_attention_heads, text.hidden_size
    varied = _varied(text)
    by_layer = [layer["num_key_value_heads"] for layer in varied if "num_key_value_heads" in layer]
    field = "num_key_value_heads" if by_layer or hasattr(text, "num_key_value_heads") else "num_kv_heads"  # Falcon's
    kv_heads = min(by_layer) if by_layer else getattr(text, field, None)
    kept_kv = min(kv_heads or heads, _KV_HEADS)
    kept = heads // (kv_heads or heads) * kept_kv
    text.num_attention_heads = kept
    if by_layer:  # as many query heads share one as before
        kept_by_layer = (
            {**layer, "num_key_value_heads": layer["num_key_value_heads"] * kept // heads} for layer in varied
        )
        text.per_layer_config = dict(enumerate(kept_by_layer))
    elif kv_heads is not None:
        setattr(text, field, kept_kv)
    text.hidden_size = width * kept // heads


def _shrink_mixers(text: Any, kept: int, heads: int) -> None:
    """Keep the share of Mamba's heads that is kept of the stream's features, and two of a delta net's key heads.

    Args:
        text: The config.
        kept: The attention heads that were kept, which the stream's features are proportional to.
        heads: The attention heads that there were.
    """
    for count, groups in (("mamba_n_heads", "mamba_n_groups"), ("mamba_num_heads", "n_groups")):
        if (all_heads := getattr(text, count, None)) is not None:
            kept_heads = max(all_heads * kept // heads, 1)
            setattr(text, count, kept_heads)
            setattr(text, groups, math.gcd(kept_heads, getattr(text, groups)))
            if getattr(text, "mamba_d_ssm", None) is not None:  # Falcon-H1's, which need not fit the stream
                text.mamba_d_ssm = kept_heads * text.mamba_d_head
    if (keys := getattr(text, "linear_num_key_heads", None)) is not None:
        kept_keys = min(keys, _KV_HEADS)
        text.linear_num_value_heads = text.linear_num_value_heads // keys * kept_keys
        text.linear_num_key_heads = kept_keys


def _shrink_mlps(text: Any) -> None:
    for name in _INNER:
        if isinstance(size := getattr(text, name, None), int):
            setattr(text, name, min(size, _LARGEST_INNER))
    used = max((getattr(text, name, None) or 0 for name in _EXPERTS_USED), default=0)
    for name in _EXPERT_COUNTS:
        if isinstance(count := getattr(text, name, None), int):
            setattr(text, name, min(count, max(_EXPERTS, 2 * used)))
    for name in _EXPERT_GROUPS:
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, 1)


def _shrink_vocabulary(text: Any) -> None:
    text.vocab_size = min(text.vocab_size, _VOCABULARY)
    for name in _TOKENS:
        token = getattr(text, name, None)
        ids = token if isinstance(token, list) else [token]
        if any(isinstance(one, int) and one >= text.vocab_size for one in ids):
            setattr(text, name, None)


@torch.no_grad()
def _draw(model: nn.Module) -> None:
    """Draw matrices such that a layer's output is about as large as its input, and move norms and biases."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # tied ones once
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * max(parameter.shape[-1], 1) ** -0.5)
        else:
            parameter.add_(0.1 * noise)
