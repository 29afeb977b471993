"""Readers k and v of an attention that keeps both in one latent (multi-head latent attention, arXiv 2405.04434).

With h the norm's output, the attention computes for all heads

    c = W_c h,  r = W_r h,      one module, ``down``; r is the part of the keys that is rotated
    n = latent norm of c,
    k = (U_k n, rotated r),  v = U_v n,      one module, ``up``.

So k and v read the stream through the same W_c, and two gradients meet there. They are kept apart:

1. The latent's norm leaves the autograd graph, and ``up``'s output joins it again (``rlcircuits.capture.reader_input``)
   as one node. In the backward it computes ∂ℓ/∂c of each: J_normᵀ U_kᵀ ∂ℓ/∂k and J_normᵀ U_vᵀ ∂ℓ/∂v.
2. ``down``'s output is the node whose input is the stream. Its backward runs after the first one's, and computes

       ∂ℓ/∂x_k = J_normᵀ (W_cᵀ ∂ℓ/∂c of k + W_rᵀ ∂ℓ/∂r),   ∂ℓ/∂x_v = J_normᵀ W_cᵀ ∂ℓ/∂c of v.

A head has a latent, and a rotated part of k, of its own: its k is what it makes of both by its rows of U_k, its v what
it makes of the latent by its rows of U_v. So its gradients are the same sums, with its part of ∂ℓ/∂k, ∂ℓ/∂v and ∂ℓ/∂r.
The attention expands one r to all heads. Each head gets a copy of it here, whose gradient is the head's own. Where q
has a latent too, a head's q is read through it in the same way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlcircuits.capture.reader_grads import OnReaderGrads, from_tensor
from rlcircuits.capture.reader_heads import pending_reader_grads
from rlcircuits.capture.reader_input import ReaderInput
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.latent import Latent, own_rotated_keys
from rlcircuits.models.norms import NormVJP


def hook_latent(
    hooks: Hooks, reader_input: ReaderInput, latent: Latent, first: dict[str, int], on_reader_grads: OnReaderGrads
) -> None:
    """Make k and v of a sublayer one reader each.

    Args:
        hooks: Where the hooks are registered.
        reader_input: The input of the attention sublayer.
        latent: The modules from the norm's output to k and v.
        first: kind → the graph's index of its reader.
        on_reader_grads: Called in the backward with the gradient of each reader.
    """
    at_latent: dict[str, Tensor] = {}

    def backward_up(grad: Tensor, norm: NormVJP) -> Tensor:
        grad = grad.flatten(1, -2)  # the model may have a dimension of one head: [batch, 1, pos, features]
        for kind, features in latent.features.items():
            at_latent[kind] = norm.vjp(grad[..., as_index(features, grad.device)] @ latent.up_rows(features))
        return at_latent["k"] + at_latent["v"]

    def backward_down(grad: Tensor, norm: NormVJP) -> Tensor:
        weight, rank = latent.down.weight, latent.rank
        k = at_latent.pop("k") @ weight[:rank] + grad[..., rank:] @ weight[rank:]
        v = at_latent.pop("v") @ weight[:rank]
        k, v = norm.vjp(k), norm.vjp(v)
        for kind, reader_grad in (("k", k), ("v", v)):
            on_reader_grads(from_tensor(first[kind], reader_grad[None]))
        return k + v

    hooks.replace_input(latent.down, reader_input.detached)
    hooks.replace_output(latent.down, lambda output: reader_input.join(output, backward_down))
    inner = ReaderInput(hooks, latent.norm, ["latent"], lambda _sublayer, _stream: None)
    hooks.replace_input(latent.up, inner.detached)
    hooks.replace_output(latent.up, lambda output: inner.join(output, backward_up))


def hook_latent_heads(
    hooks: Hooks,
    reader_input: ReaderInput,
    attention: nn.Module,
    latent: Latent,
    first: dict[str, int],
    on_reader_grads: OnReaderGrads,
) -> None:
    """Make q, or k and v, of every head one reader each.

    Args:
        hooks: Where the hooks are registered.
        reader_input: The input of the attention sublayer.
        attention: The attention.
        latent: The modules from the norm's output to q, or to k and v.
        first: kind → the graph's index of the first head's reader.
        on_reader_grads: Called in the backward with the pending gradients of one kind's readers.
    """
    heads = _Heads(latent, first, on_reader_grads)
    hooks.callback(heads.forget)
    hooks.replace_input(latent.down, reader_input.detached)
    hooks.replace_output(latent.down, lambda output: heads.keep(reader_input.join(output, heads.backward_down)))
    inner = ReaderInput(hooks, latent.norm, ["latent"], lambda _sublayer, _stream: None)
    hooks.replace_input(latent.up, inner.detached)
    hooks.replace_output(latent.up, lambda output: inner.join(output, heads.backward_up))
    if "k" in latent.features:
        hooks.enter_context(own_rotated_keys(attention, heads.copies))


class _Heads:
    """The gradients of one attention's heads, from its backward's begin to its end."""

    def __init__(self, latent: Latent, first: dict[str, int], on_reader_grads: OnReaderGrads) -> None:
        self._latent, self._first, self._on_reader_grads = latent, first, on_reader_grads
        self._shared: Tensor | None = None  # the part of k that is rotated, [batch, pos, features]
        self._at_latent: dict[str, Tensor] = {}  # kind → [heads, batch, pos, rank]
        self.at_rotated: Tensor | None = None  # [heads, batch, pos, features]

    def keep(self, output: Tensor) -> Tensor:
        """Keep the part of ``down``'s output that is rotated, until the keys are made; q has no such part."""
        if "k" in self._latent.features:
            self._shared = output[..., self._latent.rank :]
        return output

    def forget(self) -> None:
        """Let go of that part where a forward failed before the keys were made: its graph holds these gradients."""
        self._shared = None

    def copies(self) -> Tensor:
        """Return a copy of that part for each head, [batch, heads, pos, features]."""
        shared, self._shared = self._shared, None
        assert shared is not None, "the keys are made after their projection"
        return _Copies.apply(shared, len(self._latent.features["k"]), self)  # type: ignore[no-any-return, no-untyped-call]

    def backward_up(self, grad: Tensor, norm: NormVJP) -> Tensor:
        """Keep each head's gradient at its latent, and return their sum."""
        grad = grad.flatten(1, -2)  # the model may have a dimension of one head: [batch, 1, pos, features]
        total = grad.new_zeros(*grad.shape[:-1], self._latent.rank)
        for kind, features in self._latent.features.items():
            by_head = grad[..., as_index(features, grad.device)].unflatten(-1, features.shape)
            rows = self._latent.up_rows(features).unflatten(0, features.shape)
            self._at_latent[kind] = norm.of_several(torch.einsum("bthd,hdr->hbtr", by_head, rows))
            total = total + self._at_latent[kind].sum(0)
        return total

    def backward_down(self, grad: Tensor, norm: NormVJP) -> Tensor:
        """Deliver each head's gradient, and return their sum; ``grad`` is the sum at ``down``'s output."""
        weight = self._latent.down.weight
        for kind in self._latent.features:
            by_head = self._at_latent.pop(kind)
            if kind == "k":
                assert self.at_rotated is not None, "the keys' gradients come before those of their projection"
                by_head = torch.cat([by_head, self.at_rotated], -1)
                self.at_rotated = None
            rows = weight[None, : by_head.shape[-1]]
            self._on_reader_grads(pending_reader_grads(self._first[kind], by_head.permute(1, 2, 0, 3), rows, norm))
        return norm.vjp(grad @ weight)


class _Copies(torch.autograd.Function):
    """A copy for each head, [batch, pos, features] → [batch, heads, pos, features], whose gradients are kept apart."""

    @staticmethod
    def forward(ctx: Any, shared: Tensor, heads: int, kept: _Heads) -> Tensor:
        ctx.kept = kept
        return shared[:, None].repeat(1, heads, 1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        ctx.kept.at_rotated = grad.transpose(0, 1)
        return grad.sum(1), None, None
