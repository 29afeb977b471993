"""Split the weights of attention and MLP into the matrices that they are made of.

Some families store several matrices in one weight. A singular value of the whole is none of theirs, so what looks at
singular values splits them first:

- q, k and v, stacked or interleaved by head (GPT-2, Phi-3, GPT-NeoX), or q and the attention's gate (Qwen3-Next): by
  the table of :mod:`rlcircuits.models.families` and the config's heads.
- The latent of k and v and the rotated part of k, and k and v of each head from the latent (DeepSeek-V3).
- An MLP's gate and up (Phi-3, and stacked experts): two halves, the gate first; in gpt-oss they alternate.
- The experts of a mixture, stacked along the first dimension of a weight: one matrix an expert.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.models.config_layers import fused_features, head_counts
from rlcircuits.models.find_family import module_names, why_not_mapped
from rlcircuits.models.latent import latent_features
from rlcircuits.models.tensor_groups import group_of

__all__ = ["MatrixPlace", "matrix_places"]

_GATE_UP = frozenset({"gate_up_proj", "input_linear"})
"""The names of weights that compute gate and up: in models, and in the files of Granite's mixtures."""


@dataclass(frozen=True, eq=False)
class MatrixPlace:
    """Where one matrix is in a weight."""

    name: str
    """What it is called in the weight: ``q``, ``gate``, ``expert 3``, ``expert 3 up``; empty for the whole weight."""
    expert: int | None
    """Its index along the first dimension; None in a weight of two dimensions."""
    dim: int
    """The dimension of the matrix, 0 or 1, along which it is cut out."""
    features: Tensor | None
    """Its indices along ``dim``, int64 [features]; None for all."""

    def take(self, weight: Tensor) -> Tensor:
        """Return the matrix of a weight, [rows, columns]; a view where that is possible."""
        matrix = weight if self.expert is None else weight[self.expert]
        return matrix if self.features is None else matrix.index_select(self.dim, self.features)

    def put(self, weight: Tensor, matrix: Tensor) -> None:
        """Write a matrix to its place in a weight."""
        whole = weight if self.expert is None else weight[self.expert]
        if self.features is None:
            whole.copy_(matrix)
        else:
            whole.index_copy_(self.dim, self.features, matrix.to(whole.dtype))


def matrix_places(key: str, shape: tuple[int, ...], config: Any) -> tuple[MatrixPlace, ...]:
    """Return the places of the matrices in a weight; none for one that is no matrix of attention or MLP.

    Embeddings, the unembedding, norms, biases and layers that mix tokens without attention (Mamba, linear attention)
    have none.

    Args:
        key: the weight's name in the model or in its files.
        shape: its shape.
        config: the Hugging Face config of the (text) model.

    Raises:
        RLCircuitsError: the model's family is not supported, or the shape of a fused weight is not the config's.
    """
    parts = key.split(".")
    # The weight of stacked experts is a parameter of its own, which is not called "weight".
    is_weight = parts[-1] == "weight" or len(shape) == 3
    if group_of(key) not in ("attention", "MLP") or len(shape) not in (2, 3) or not is_weight:
        return ()
    pieces = _pieces(key, parts, shape[-2:], config)
    experts: list[int | None] = list(range(shape[0])) if len(shape) == 3 else [None]
    return tuple(
        MatrixPlace(" ".join(filter(None, ("" if expert is None else f"expert {expert}", name))), expert, dim, features)
        for expert in experts
        for name, dim, features in pieces
    )


def _pieces(key: str, parts: list[str], shape: tuple[int, ...], config: Any) -> list[tuple[str, int, Tensor | None]]:
    """Return the name, dimension and indices of each matrix in one weight or one expert's."""
    names = module_names(config)
    if names is None:
        raise RLCircuitsError(f"weight {key} cannot be split into its matrices: {why_not_mapped(config)}")
    if len(names.projections) == 1 and names.projections[0] in parts:
        features = {kind: each.reshape(-1) for kind, each in fused_features(names, head_counts(config)).items()}
        return list(_cut(key, shape, features))
    if names.gated_queries and "q_proj" in parts:
        by_head = torch.arange(shape[0]).view(head_counts(config).q, 2, -1)
        return list(_cut(key, shape, {"q": by_head[:, 0].reshape(-1), "gate": by_head[:, 1].reshape(-1)}))
    if names.latent is not None and names.latent.kv_down in parts:
        of_latent = torch.arange(config.kv_lora_rank)
        rotated = torch.arange(config.kv_lora_rank, config.kv_lora_rank + config.qk_rope_head_dim)
        return list(_cut(key, shape, {"latent": of_latent, "rotated k": rotated}))
    if names.latent is not None and names.latent.kv_up in parts:
        return list(_cut(key, shape, {kind: each.reshape(-1) for kind, each in latent_features(config).items()}))
    if not _GATE_UP.isdisjoint(parts):
        dim = 0 if names.gate_up == "rows" else 1
        both = torch.arange(shape[dim])
        gate, up = both.view(-1, 2).T if names.gate_up == "alternating columns" else both.chunk(2)
        return [("gate", dim, gate), ("up", dim, up)]
    return [("", 0, None)]


def _cut(key: str, shape: tuple[int, ...], features: dict[str, Tensor]) -> Iterator[tuple[str, int, Tensor]]:
    """Yield the pieces of a fused weight, whose outputs are the rows of a linear layer, and the columns of a Conv1D."""
    total = sum(map(len, features.values()))
    if total not in shape:
        raise RLCircuitsError(
            f"weight {key} is {list(shape)}; by the config one of its dimensions is {total}, of {', '.join(features)}"
        )
    dim = shape.index(total)
    for kind, each in features.items():
        yield kind, dim, each
