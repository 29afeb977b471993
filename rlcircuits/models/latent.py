"""The way from a norm's output to k and v in a multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.models.families import LatentNames
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.norms import Norm

NO_HEAD_KEYS = "its attention expands the rotated part of k, which its heads share, in another way than DeepSeek-V3's"
"""Why the heads of a latent attention cannot be nodes of an edge graph."""


@dataclass(frozen=True)
class Latent:
    """The modules of a multi-head latent attention (arXiv 2405.04434) from the norm's output to k and v, or to q.

    Args:
        down: To the latent [rank]. That of k and v is followed by the part of k that is rotated, which all heads share.
        norm: The norm at the latent.
        up: From the normed latent to the rest of k, and to v; or to q.
        features: ``k``, ``v``, or ``q`` → int64 [heads, features of each], the output features of ``up``.
        rank: Features of the latent.
    """

    down: nn.Linear
    norm: Norm
    up: nn.Linear
    features: dict[str, Tensor]
    rank: int

    def up_rows(self, features: Tensor) -> Tensor:
        """Return the rows of ``up`` that compute these output features (any shape): [features, rank]."""
        return self.up.weight[as_index(features, self.up.weight.device)]


def locate_latent(linear: Callable[[str, int, int], Any], norm: Norm, names: LatentNames, config: Any) -> Latent:
    """Return the modules to k and v.

    Args:
        linear: From a layer's name in the attention and its numbers of inputs and outputs to the layer.
        norm: The norm at the latent.
        names: The names in the attention.
        config: The Hugging Face config.

    Raises:
        RLCircuitsError: a layer is missing or has another shape.
    """
    rank = config.kv_lora_rank
    features = latent_features(config)
    return Latent(
        down=linear(names.kv_down, config.hidden_size, rank + config.qk_rope_head_dim),
        norm=norm,
        up=linear(names.kv_up, rank, sum(each.numel() for each in features.values())),
        features=features,
        rank=rank,
    )


def latent_features(config: Any) -> dict[str, Tensor]:
    """Return the output features of ``up``: ``k``, ``v`` → int64 [heads, features of each], head after head."""
    key, value = config.qk_nope_head_dim, config.v_head_dim
    by_head = torch.arange(config.num_attention_heads * (key + value)).view(-1, key + value)
    return {"k": by_head[:, :key], "v": by_head[:, key:]}


def locate_latent_q(linear: Callable[[str, int, int], Any], norm: Norm, names: LatentNames, config: Any) -> Latent:
    """Return the modules to q, of an attention in which q has a latent of its own; see :func:`locate_latent`."""
    rank, heads = config.q_lora_rank, config.num_attention_heads
    features = torch.arange(heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)).view(heads, -1)
    return Latent(
        down=linear(names.q_down, config.hidden_size, rank),
        norm=norm,
        up=linear(names.q_up, rank, features.numel()),
        features={"q": features},
        rank=rank,
    )


def can_part_keys(attention: nn.Module) -> bool:
    """Return whether each head of a latent attention can be given a rotated part of k of its own."""
    return hasattr(attention, "expand_kv") and hasattr(_module_of(attention), _rotation_name(attention))


@contextmanager
def own_rotated_keys(attention: Any, unrotated: Callable[[], Tensor]) -> Iterator[None]:
    """Give each head of a latent attention its own rotated part of k within the context.

    The attention computes one such part, rotates it and expands it to all heads. Here it expands parts of the heads'
    own, which are rotated by the model's own function.

    Args:
        attention: The attention, for which :func:`can_part_keys` is true.
        unrotated: Returns the parts of k before the rotation, [batch, heads, pos, features], in each forward, once the
            projection to them has run.
    """
    own = attention.expand_kv
    tables: list[tuple[Tensor, Tensor]] = []
    rotate = getattr(_module_of(attention), _rotation_name(attention))

    def keep_tables(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tables[:] = [kwargs["position_embeddings"] if "position_embeddings" in kwargs else args[1]]

    def expand(latent: Tensor, _shared: Tensor) -> Any:
        cos, sin = tables.pop()
        parts = unrotated()
        return own(latent, rotate(parts, parts, cos, sin)[1])

    hook = attention.register_forward_pre_hook(keep_tables, with_kwargs=True)
    attention.expand_kv = expand
    try:
        yield
    finally:
        del attention.expand_kv
        hook.remove()


def _module_of(attention: nn.Module) -> Any:
    return sys.modules[type(attention).__module__]


def _rotation_name(attention: Any) -> str:
    interleaved = getattr(attention.config, "rope_interleave", False)
    return "apply_rotary_pos_emb_interleave" if interleaved else "apply_rotary_pos_emb"
