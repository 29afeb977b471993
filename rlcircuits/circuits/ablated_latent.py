"""k and v of one latent (``rlcircuits.capture.reader_latent``), each of which reads its own stream.

The model's own pass through the latent is the keys'. The values' latent is computed beside it, and gives the values'
features of ``up`` in place of the keys'. Where each head reads a stream of its own, it has its own latents, and its own
rotated part of k.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks, forward_replaced
from rlcircuits.models.latent import Latent, own_rotated_keys


def hook_ablated_latent(hooks: Hooks, latent: Latent, normed: Callable[[str, Tensor], Tensor]) -> None:
    """Make k and v read what ``normed`` returns.

    Args:
        hooks: Where the hooks are registered.
        latent: The modules from the norm's output to k and v.
        normed: From a kind, k or v, and what the model gives to ``down``, to what that kind reads after the norm,
            [batch, pos, width].
    """
    of_values: list[Tensor] = []

    def down(hidden: Tensor) -> Tensor:
        weight, bias, rank = latent.down.weight, latent.down.bias, latent.rank
        of_values.append(F.linear(normed("v", hidden), weight[:rank], None if bias is None else bias[:rank]))
        return F.linear(normed("k", hidden), weight, bias)

    def up(of_keys: Tensor) -> Tensor:
        # forward() rather than a call, which would run the hooks of this forward.
        values: Tensor = latent.norm.module.forward(of_values.pop())
        output = F.linear(of_keys, latent.up.weight, latent.up.bias)
        features = latent.features["v"].flatten()
        own = F.linear(values.view_as(of_keys), latent.up_rows(features), None)
        if latent.up.bias is not None:
            own = own + latent.up.bias[as_index(features, own.device)]
        output[..., as_index(features, output.device)] = own
        return output

    hooks.enter_context(forward_replaced(latent.down, down))
    hooks.enter_context(forward_replaced(latent.up, up))


def hook_ablated_latent_heads(
    hooks: Hooks, attention: nn.Module, latent: Latent, normed: Callable[[str, Tensor], Tensor]
) -> None:
    """Make q, or k and v, of each head read what ``normed`` returns.

    Args:
        hooks: Where the hooks are registered.
        attention: The attention.
        latent: The modules from the norm's output to q, or to k and v.
        normed: From a kind and what the model gives to ``down``, to what each head reads as that kind after the norm,
            [heads, batch, pos, width].
    """
    rank = latent.rank
    latents: dict[str, Tensor] = {}
    rotated: list[Tensor] = []

    def down(hidden: Tensor) -> Tensor:
        weight, bias = latent.down.weight, latent.down.bias
        for kind in latent.features:
            size = len(weight) if kind == "k" else rank
            output = F.linear(normed(kind, hidden), weight[:size], None if bias is None else bias[:size])
            # forward() rather than a call, which would run the hooks of this forward.
            latents[kind] = latent.norm.module.forward(output[..., :rank])
            if kind == "k":
                rotated.append(output[..., rank:].transpose(0, 1))
        return hidden.new_zeros(*hidden.shape[:-1], len(weight))  # nothing reads it

    def up(unread: Tensor) -> Tensor:
        output = unread.new_empty(*unread.shape[:-1], len(latent.up.weight))
        for kind, features in latent.features.items():
            rows = latent.up_rows(features).unflatten(0, features.shape)
            by_head = torch.einsum("hbtr,hdr->bthd", latents.pop(kind), rows)
            if latent.up.bias is not None:
                by_head = by_head + latent.up.bias[as_index(features, by_head.device)].view(features.shape)
            output[..., as_index(features, output.device)] = by_head.reshape(*unread.shape[:-1], -1)
        return output

    hooks.enter_context(forward_replaced(latent.down, down))
    hooks.enter_context(forward_replaced(latent.up, up))
    if "k" in latent.features:
        hooks.enter_context(own_rotated_keys(attention, rotated.pop))
