"""The way from a norm's output to k and v in a multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.models.families import LatentNames
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.norms import Norm

SHARED_KEY = "its heads share one rotated part of k, where the gradients of their keys are summed"
"""Why the heads of such an attention cannot be nodes of an edge graph."""


@dataclass(frozen=True)
class LatentKV:
    """The modules of a multi-head latent attention (arXiv 2405.04434) from the norm's output to k and v.

    Args:
        down: To the latent [rank], followed by the part of k that is rotated, which all heads share.
        norm: The norm at the latent.
        up: From the normed latent to the rest of k, and to v.
        features: ``k``, ``v`` → int64 [heads, features of each], the output features of ``up``.
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


def locate_latent(linear: Callable[[str, int, int], Any], norm: Norm, names: LatentNames, config: Any) -> LatentKV:
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
    return LatentKV(
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
