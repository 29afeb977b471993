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
"""

from __future__ import annotations

from torch import Tensor

from rlcircuits.capture.reader_grads import OnReaderGrads, from_tensor
from rlcircuits.capture.reader_input import ReaderInput
from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.latent import LatentKV
from rlcircuits.models.norms import NormVJP


def hook_latent(
    hooks: Hooks, reader_input: ReaderInput, latent: LatentKV, first: dict[str, int], on_reader_grads: OnReaderGrads
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
