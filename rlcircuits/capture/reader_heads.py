"""Readers q, k and v of every attention head.

A head's reader reads the stream through the norm and through the head's rows of the projection, so that

    ∂ℓ/∂x_v = J_normᵀ (g W_h)      g: ∂ℓ/∂(the head's features), [batch, pos, head_dim];  W_h: [head_dim, width].

The result is as large as the stream, for three readers a head. Two things keep that affordable:

- Grouped queries (head granularity only). Each query head is to have a k and a v reader of its own, though a group of
  query heads shares one k and one v head. The projection's output is copied once for each query head, as Hugging
  Face's ``repeat_kv`` does later, inside attention. Each copy's gradient is then one query head's.
- Gradients on demand. The backward keeps g, n_heads times smaller, and the contraction asks for ∂ℓ/∂x_v batch slice
  by batch slice (``PendingReaderGrads``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.capture.batch_slices import BatchSlice
from rlcircuits.capture.head_sums import HeadPart
from rlcircuits.capture.reader_grads import OnReaderGrads, PendingReaderGrads, ReaderGrads, from_tensor
from rlcircuits.capture.reader_input import ReaderInput
from rlcircuits.common.devices import can_use_triton, to_device_async
from rlcircuits.common.linear_product import linear_product, product_of_heads
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.norms import NormVJP
from rlcircuits.models.parts import Block, Projection


def hook_heads(
    hooks: Hooks,
    reader_input: ReaderInput,
    projection: Projection,
    copies: int,
    first: dict[str, int],
    on_reader_grads: OnReaderGrads,
    kind_shares: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Make q, k and v of every head one reader each, as far as the projection computes them.

    Args:
        hooks: Where the hooks are registered.
        reader_input: The input of the attention sublayer.
        projection: The module that computes q, k or v, or all three.
        copies: How many query heads read each k and v head: the group's size, or 1 for no copies. Above 1, attention
            must expect the copies: see ``one_kv_per_query_head``.
        first: kind → the graph's index of the first head's reader.
        on_reader_grads: Called in the backward with the pending gradients of one kind's readers.
        kind_shares: What the gradients of a kind (q, k, v) are multiplied by, where it is not 1
            (``rlcircuits.models.backward_rules``).
    """
    heads = HeadFeatures.of(projection, copies)

    def backward(grad: Tensor, norm: NormVJP) -> Tensor:
        grad = with_shares(grad, heads.place, kind_shares)
        for kind, source in heads.source.items():
            by_head = grad[..., as_index(heads.place[kind], grad.device)].unflatten(-1, source.shape)
            weight = projection.rows(source).unflatten(0, source.shape)
            on_reader_grads(pending_reader_grads(first[kind], by_head, weight, norm))
        grad = heads.sum_copies(grad)
        return norm.vjp(linear_product(grad, projection.rows(torch.arange(grad.shape[-1])).T))

    hooks.replace_input(projection.module, reader_input.detached)
    replace_projected(hooks, projection, lambda output: reader_input.join(heads.copy(output), backward))


def replace_projected(hooks: Hooks, projection: Projection, replace: Callable[[Tensor], Tensor]) -> None:
    """Replace what a projection gives to the attention, [batch, pos, features].

    That is its output; or where k and v are one output, what the norm of one of them reads, head by head.
    """
    if projection.split_at is None:
        hooks.replace_output(projection.module, replace)
        return

    def by_head(heads: Tensor) -> Tensor:
        given: Tensor = replace(heads.flatten(-2)).unflatten(-1, (-1, heads.shape[-1]))
        return given

    hooks.replace_input(projection.split_at, by_head)


def with_shares(grad: Tensor, features: dict[str, Tensor], shares: Mapping[str, float]) -> Tensor:
    """Return the gradient [..., features] with the features of some kinds multiplied by their share."""
    found = [(features[kind], share) for kind, share in shares.items() if kind in features]
    if found:
        grad = grad.clone()
        for some, share in found:
            grad[..., as_index(some, grad.device)] *= share
    return grad


@dataclass(frozen=True)
class HeadFeatures:
    """Which output features of a projection the readers of each head read, before and after k and v are copied.

    Four index spaces occur, for a kind (q, k or v) with ``heads`` heads and ``readers = heads · copies`` readers:

        heads      the kind's heads in the model            k of a group of query heads is one head
        readers    the kind's readers in the graph          reader r reads head r // copies
        features   the projection's output, n_features      q, k and v if the projection is fused
        places     the copied output, n_places              the features of all readers, kind after kind

    source: kind → int64 [readers, head_dim], the feature that each reader reads.
    place: kind → int64 [readers, head_dim], the place of the reader's copy of that feature.
    feature_at: int64 [n_places], the feature of which there is a copy at each place. None if nothing is copied:
        the copied output is then the projection's output, and ``place`` is ``source``.
    """

    source: dict[str, Tensor]
    place: dict[str, Tensor]
    feature_at: Tensor | None
    n_features: int

    @classmethod
    def of(cls, projection: Projection, copies: int) -> HeadFeatures:
        """Return the features of a projection's heads, with k and v copied for ``copies`` readers each."""
        n_features = sum(features.numel() for features in projection.features.values())
        source = {
            kind: features.repeat_interleave(1 if kind == "q" else copies, dim=0)
            for kind, features in projection.features.items()
        }
        if copies == 1 or source.keys() == {"q"}:
            return cls(source, source, None, n_features)
        sizes = [features.numel() for features in source.values()]
        places = torch.arange(sum(sizes)).split(sizes)
        place = {kind: some.view_as(source[kind]) for kind, some in zip(source, places, strict=True)}
        return cls(source, place, torch.cat([features.flatten() for features in source.values()]), n_features)

    def copy(self, output: Tensor) -> Tensor:
        """Return the copied output: [..., n_features] → [..., n_places]."""
        return output if self.feature_at is None else output[..., to_device_async(self.feature_at, output.device)]

    def sum_copies(self, grad: Tensor) -> Tensor:
        """Return the gradient at the projection's output, from the copies': [..., n_places] → [..., n_features]."""
        if self.feature_at is None:
            return grad
        summed = grad.new_zeros(*grad.shape[:-1], self.n_features)
        return summed.index_add_(-1, to_device_async(self.feature_at, grad.device), grad)


def pending_reader_grads(first: int, grad: Tensor, weight: Tensor, norm: NormVJP) -> PendingReaderGrads:
    """Return the gradients of one kind's readers, computed when the contraction asks for them.

    The norm's VJP is a − mean(a·d) d with a = scale · through(g W) (``rlcircuits.models.norms.Factors``). The scale is
    applied to the features and ``through`` to the projection's rows, each n_heads times smaller than the result. The
    part along d is removed by the Triton kernel, or else by the contraction.

    Args:
        first: The graph's index of the first head's reader.
        grad: ∂ℓ/∂(each head's features), [batch, pos, heads, head_dim].
        weight: The projection's rows, [heads, head_dim, width]; or [1, head_dim, width], the same for all heads.
        norm: The VJP of the norm.
    """
    factors, heads = norm.factors, grad.shape[-2]
    if factors is None:
        return from_tensor(first, norm.vjp(product_of_heads(grad, weight.expand(heads, -1, -1))))
    scaled = (grad.to(factors.scale.dtype) * factors.scale[..., None]).to(grad.dtype).flatten(-2)
    weight = factors.through(weight).to(grad.dtype).expand(heads, -1, -1)
    indices = range(first, first + len(weight))

    def reader_grads(batch_slice: BatchSlice) -> ReaderGrads:
        features = batch_slice.of(scaled).unflatten(-1, weight.shape[:2])
        direction = None if factors.direction is None else batch_slice.of(factors.direction)
        if direction is not None and can_use_triton(features):
            from rlcircuits.capture.triton_heads import reader_grads_by_head

            correction = factors.rounding_correction
            if correction is not None:
                correction = batch_slice.of(correction[..., None])[..., 0]
            direction = direction.to(features.dtype)
            return ReaderGrads(indices, reader_grads_by_head(features, weight, direction, correction))
        return ReaderGrads(indices, product_of_heads(features, weight), direction)

    part = HeadPart(scaled, weight, factors.direction, factors.rounding_correction)
    return PendingReaderGrads(indices, reader_grads, scaled.nbytes, scaled.device, part)


@contextmanager
def one_kv_per_query_head(block: Block, n_heads: int) -> Iterator[None]:
    """Make a grouped-query attention take one k and one v head for each query head, as ``hook_heads`` gives it."""
    attention = block.attention
    assert attention is not None, "a block without attention has no heads"
    saved: list[tuple[nn.Module, str, object]] = []

    def swap(owner: nn.Module, name: str, value: object) -> None:
        saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    try:
        if all(hasattr(attention, name) for name in ("_split_heads", "num_kv_heads")):  # Falcon's fused q, k and v
            swap(attention, "num_kv_heads", n_heads)
            vars(attention)["_split_heads"] = partial(_split_stacked, n_heads)
        else:
            swap(attention, "num_key_value_groups", 1)
        if hasattr(attention, "num_key_value_heads"):
            swap(attention, "num_key_value_heads", n_heads)
        norm = getattr(attention, "k_norm", None)
        if norm is not None and norm.weight.numel() > block.head_dim:
            # A norm over all k features (OLMo 2): copies of whole groups have the same mean square. Or a norm of each
            # head with a weight of its own, [heads, head_dim] (Cohere).
            weight = norm.weight.detach()
            heads = weight.view(block.n_kv_heads, -1).repeat_interleave(n_heads // block.n_kv_heads, dim=0)
            swap(norm, "weight", nn.Parameter(heads if weight.ndim == 2 else heads.flatten(), requires_grad=False))
        yield
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)
        vars(attention).pop("_split_heads", None)


def _split_stacked(n_heads: int, fused: Tensor) -> Any:
    """Return q, k and v, [batch, pos, heads, head_dim] each, of all q, all k and all v in one tensor."""
    return fused.unflatten(-1, (3, n_heads, -1)).unbind(-3)
