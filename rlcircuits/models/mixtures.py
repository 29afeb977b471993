"""The experts of an MLP that is a mixture: what calls them, and how what they return joins the stream.

A mixture of E experts writes

    Σ_e w_e(x) f_e(x) + s(x)

with w_e the router's weight, zero for all but a few experts of each token, and s what is written for every token: by
shared experts, or a bias. transformers keeps the experts of a layer in one module with stacked weights, and calls it
with the tokens, the experts that each token chose, and their weights. Called with each token once for each of its
choices, the same module returns the experts' shares apart (:meth:`Mixture.shares`), whatever their formula is.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rlcircuits.common.sublayers import Experts
from rlcircuits.models.families import ModuleNames

__all__ = ["Mixture", "find_mixture"]

_SHARED = ("shared_expert", "shared_experts")
"""The names of experts that read every token."""


@dataclass(frozen=True)
class Mixture:
    """The mixture of experts in an MLP.

    Args:
        module: The module that routes tokens to experts: the MLP, or what is beside it.
        experts: The module of all experts.
        count: The number of experts; 0 where it is not known.
        router: The router of experts that are called with weighted tokens, every expert with every token. None where
            they are called with the tokens, the choices and their weights.
        out: The linear layer between the experts' sum and the stream.
        factor: What the experts' sum is multiplied by, before any multiplier of the MLP.
        shared: Whether the MLP also writes what no routed expert does.
        unknown: Why the experts' shares cannot be told apart; None if they can.
    """

    module: nn.Module
    experts: nn.Module
    count: int
    router: nn.Module | None
    out: nn.Linear | None
    factor: float
    shared: bool
    unknown: str | None

    @property
    def size(self) -> Experts:
        """The writers that the mixture is."""
        return Experts(self.count, self.shared)

    def shares(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return what each chosen expert adds to each token, as the experts return it.

        Args:
            hidden: What the experts read, [tokens, features].
            chosen: int64 [tokens, choices], the experts of each token.
            weights: [tokens, choices], their weights.

        Returns:
            [tokens, choices, features].
        """
        choices = chosen.shape[1]
        # forward() rather than a call, which would run the capture's own hooks.
        apart = self.experts.forward(
            hidden.repeat_interleave(choices, 0), chosen.reshape(-1, 1), weights.reshape(-1, 1)
        )
        shares: Tensor = apart.view(len(hidden), choices, -1)
        return shares

    def written(self, returned: Tensor) -> Tensor:
        """Return what joins the stream of what the experts return: [..., features] → [..., width], without a bias."""
        if self.out is not None:
            returned = returned @ self.out.weight.T
        return returned if self.factor == 1 else returned * self.factor


def find_mixture(mlp: nn.Module, beside: nn.Module | None, names: ModuleNames, config: Any) -> Mixture | None:
    """Return the mixture of an MLP, or None for an MLP that is none.

    Args:
        mlp: The MLP.
        beside: What reads beside it, if anything does.
        names: The family's module names.
        config: The Hugging Face config of the (text) model.
    """
    module = mlp if beside is None else beside
    experts = getattr(module, names.experts, None)
    if not isinstance(experts, nn.Module):
        return None
    router = None if names.weighing_router is None else getattr(module, names.weighing_router, None)
    out = None if names.experts_out is None else getattr(module, names.experts_out, None)
    out = out if isinstance(out, nn.Linear) else None
    count = getattr(experts, "num_experts", None)
    shared = any(isinstance(getattr(module, name, None), nn.Module) for name in _SHARED)
    averaged = shared and getattr(config, "shared_expert_combination_strategy", "sum") == "average"
    return Mixture(
        module=module,
        experts=experts,
        count=count if isinstance(count, int) else 0,
        router=router,
        out=out,
        factor=0.5 if averaged else 1.0,
        shared=shared or beside is not None or (out is not None and out.bias is not None),
        unknown=_why_unknown(experts, count, router),
    )


def _why_unknown(experts: nn.Module, count: object, router: nn.Module | None) -> str | None:
    """Return why the shares of experts cannot be told apart, or None if they can."""
    reads = 1 if router is not None else 3
    found = len(inspect.signature(experts.forward).parameters)
    if isinstance(count, int) and count > 0 and found == reads:
        return None
    return (
        f"its experts ({type(experts).__name__}) are not one module that is called with the tokens, the experts that "
        "each token chose, and their weights"
    )
