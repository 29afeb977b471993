"""k and v of one latent (``rlcircuits.capture.reader_latent``), each of which reads its own stream.

The model's own pass through the latent is the keys'. The values' latent is computed beside it, and gives the values'
features of ``up`` in place of the keys'.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from rlcircuits.models.feature_index import as_index
from rlcircuits.models.hooks import Hooks, forward_replaced
from rlcircuits.models.latent import LatentKV


def hook_ablated_latent(hooks: Hooks, latent: LatentKV, normed: Callable[[str, Tensor], Tensor]) -> None:
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
