"""Rules that replace parts of the backward pass, one by one; the forward stays as it is.

    norm_scale           the norm's 1/√(mean square) is constant                          LN-rule
    activation           f(x) = x · φ(x), and φ(x) is constant                            identity rule
    gate_half            of a product gate ⊙ up, each factor gets half of its gradient    half rule
    attention            the attention weights are constant: q and k get no gradient      AH-rule
    softmax_temperature  the backward through the attention's softmax is at T = 2         TSG
    qkv_shares           q and k get a quarter of their gradient, v gets half             gradient normalisation

The first four together are RelP (arXiv 2508.21258). Each makes one non-linear part of a block linear, by holding a
factor of it constant, so that a relevance (a gradient times what it belongs to) passes through the part whole. Then the
backward is that of a linear model: but for biases, what enters a node as relevance leaves it, and a metric that is
linear in the logits is the relevance of the embedding.

``norm_scale``, ``gate_half``, ``softmax_temperature`` and ``qkv_shares`` are GIM (arXiv 2505.17630). The last two keep
the gradient of q and k, which RelP leaves out, and correct it: where a softmax is saturated it nearly vanishes
(:mod:`rlcircuits.models.heated_softmax`), and a product of n factors, each of which gets the whole gradient, counts one
effect n times. The output of attention is softmax(q kᵀ) v: its two factors get half each, and q and k half of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlcircuits.common.choices import GIM, RELP, RULE_SETS, RULES
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.models.families import ModuleNames, is_added
from rlcircuits.models.heated_softmax import heated
from rlcircuits.models.hooks import Hooks, forward_replaced
from rlcircuits.models.norms import Norm, epsilon_of, recognise
from rlcircuits.models.parts import Block, ModelParts

__all__ = ["GIM", "NO_RULES", "RELP", "VERSION", "BackwardRules", "check_rules", "hook_rules"]

VERSION = 2
"""To be raised whenever a rule gives other scores. Recorded with scores that were made by rules.

1: the norms of queries and keys kept their own gradient under ``norm_scale``. RelP's scores are the same in both."""

_NO_SHARES: Mapping[str, float] = {}

_ACTIVATIONS = ("act_fn", "act", "activation_fn")
"""The names of an MLP's activation."""

_GATED = ("gate_proj", "gate_up_proj")
"""An MLP with a module of one of these names multiplies a gate with what it opens."""

_SMALL = 1e-4
"""Where an activation's factor φ is taken for an input of 0, at which f(x)/x is not defined."""


@dataclass(frozen=True)
class BackwardRules:
    """Which rules are used. The fields have the names of :data:`~rlcircuits.common.choices.RULES`."""

    norm_scale: bool = False
    activation: bool = False
    gate_half: bool = False
    attention: bool = False
    softmax_temperature: bool = False
    qkv_shares: bool = False

    def __post_init__(self) -> None:
        for name in ("softmax_temperature", "qkv_shares"):
            if self.attention and getattr(self, name):
                raise RLCircuitsError(
                    f"rules holds attention and {name}: with attention, q and k get no gradient, which {name} is to "
                    "correct; leave one of them out"
                )

    @classmethod
    def named(cls, names: str | Sequence[str]) -> BackwardRules:
        """Return the rules of these names, of which each may stand for several (``relp``, ``gim``).

        Args:
            names: the names, or one string with commas between them.

        Raises:
            RLCircuitsError: an unknown name, or rules that exclude each other.
        """
        found: list[str] = []
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        for name in names:
            if name not in RULES and name not in RULE_SETS:
                known = ", ".join((*RULES, *RULE_SETS))
                raise RLCircuitsError(f"rules holds {truncated_repr(name)}; each must be one of {known}")
            found += RULE_SETS.get(name, (name,))
        return cls(**dict.fromkeys(found, True))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rules that are used."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name))

    @property
    def kind_shares(self) -> Mapping[str, float]:
        """What the gradients of the readers of a kind (q, k, v) are multiplied by; 1 for a kind that is not there."""
        if self.attention:
            return {"q": 0.0, "k": 0.0}
        return {"q": 0.25, "k": 0.25, "v": 0.5} if self.qkv_shares else _NO_SHARES

    def of_norm(self, norm: Norm | None) -> Norm | None:
        """Return the norm whose VJP follows the rules."""
        return replace(norm, scale_detached=True) if norm is not None and self.norm_scale else norm

    def mlp_share(self, mlp: nn.Module | None) -> float:
        """Return what an MLP's gradient at its input is multiplied by.

        Gate and up projection read the same input, so halving the gradient of both halves the input's.
        """
        return 0.5 if self.gate_half and any(hasattr(mlp, name) for name in _GATED) else 1.0


NO_RULES = BackwardRules()
"""The plain gradient."""


def check_rules(rules: BackwardRules, parts: ModelParts, config: Any) -> None:
    """Raise RLCircuitsError for a model with a part for which no rule is defined, whichever the rules are.

    Args:
        rules: The rules.
        parts: The parts of the model.
        config: The model's Hugging Face config.
    """
    if rules == NO_RULES:
        return
    if is_added(config):
        raise RLCircuitsError(
            f"rules are defined for the families of the table only, and {config.model_type!r} has names that were "
            "registered, so that it is not known what else its attention and MLP compute; leave the rules out"
        )
    for layer, block in enumerate(parts.blocks):
        uncovered = _uncovered(block, parts)
        if uncovered is not None:
            raise RLCircuitsError(f"{uncovered.format(layer=layer)}, for which no rule is defined; leave the rules out")
    norms = [norm for block in parts.blocks for norm in (block.attention_norm, block.mlp_norm)]
    norms += [norm for block in parts.blocks for norm in (block.attention_post_norm, block.mlp_post_norm)]
    norms += [norm for block in parts.blocks for norm in _head_norms(block, parts.names, rules)]
    for norm in (*norms, parts.final_norm):
        if rules.norm_scale and norm is not None and norm.kind == "other":
            raise RLCircuitsError(
                f"{type(norm.module).__name__} is neither RMSNorm nor LayerNorm, which the rule norm_scale needs"
            )


def _uncovered(block: Block, parts: ModelParts) -> str | None:
    """Return what a block has that no rule covers, with a place for its layer; None if there is nothing."""
    if block.mixer is not None:
        return f"mixer.{{layer}} is a {type(block.mixer).__name__}, which mixes tokens without attention"
    if block.latent is not None:
        return "attn.{layer} reads k and v through a latent with a norm of its own"
    if parts.names.gated_queries:
        return "attn.{layer} multiplies its output by a gate that is computed with q"
    if block.mixture is not None or block.mlp_beside is not None or block.mlp_also_reads:
        return f"mlp.{{layer}} is a mixture of experts ({type(block.mlp).__name__}) with a router"
    if not _is_plain(block.mlp):
        return f"mlp.{{layer}} ({type(block.mlp).__name__}) is neither two layers nor a gate and an activation"
    return None


def _is_plain(mlp: nn.Module | None) -> bool:
    """Return whether an MLP is two linear layers with an activation between them, or has a gate too.

    Its modules are compared with those of the MLPs for which the rules hold. A gate by another name would not get half
    of the gradient, which no error would tell.
    """
    if mlp is None or len(_activations(mlp)) != 1:
        return False
    rest = {name for name, module in mlp.named_children() if not isinstance(module, nn.Dropout)} - set(_ACTIVATIONS)
    linear = all(isinstance(getattr(mlp, name), nn.Linear | Conv1D) for name in rest)
    gated = rest in ({"gate_proj", "up_proj", "down_proj"}, {"gate_up_proj", "down_proj"})
    return linear and (gated or (len(rest) == 2 and rest.isdisjoint(_GATED)))


def _head_norms(block: Block, names: ModuleNames, rules: BackwardRules) -> list[Norm]:
    """Return the norms of queries, keys and values through which a gradient passes."""
    if block.attention is None:
        return []
    of_values = None if names.split_at is None else getattr(block.attention, names.split_at[1])
    found = [
        module
        for module in block.attention.children()
        if epsilon_of(module) is not None and (module is of_values or not rules.attention)
    ]
    weights = [getattr(module, "weight", None) for module in found]
    widths = [block.head_dim if weight is None else weight.shape[-1] for weight in weights]
    return [recognise(module, width) for module, width in zip(found, widths, strict=True)]


def hook_rules(hooks: Hooks, parts: ModelParts, rules: BackwardRules) -> None:
    """Replace the backward of norms and activations that no reader has, and of softmaxes.

    Readers see to their own norms, to gates, and to the shares of q, k and v.

    Args:
        hooks: Where the replacements end. They must stay until the backward has ended.
        parts: The parts of the model.
        rules: The rules.
    """
    for block in parts.blocks:
        if rules.norm_scale:
            for norm in (block.attention_post_norm, block.mlp_post_norm, *_head_norms(block, parts.names, rules)):
                if norm is not None:
                    linear = _linear_norm(replace(norm, scale_detached=True))
                    hooks.enter_context(forward_replaced(norm.module, linear))
        if rules.activation:
            for activation in _activations(block.mlp):
                hooks.enter_context(forward_replaced(activation, _times_constant(activation.forward)))
        if rules.softmax_temperature and block.attention is not None:
            hooks.enter_context(forward_replaced(block.attention, heated(block.attention)))


def _activations(mlp: nn.Module | None) -> list[nn.Module]:
    found = (getattr(mlp, name, None) for name in _ACTIVATIONS)
    return [each for each in found if isinstance(each, nn.Module)]


def _linear_norm(norm: Norm) -> Callable[[Tensor], Tensor]:
    own = norm.module.forward

    def forward(x: Tensor) -> Tensor:
        output = own(x.detach())
        return _WithBackward.apply(x, output, norm.vjp_at(x.detach()).vjp)  # type: ignore[no-any-return, no-untyped-call]

    return forward


def _times_constant(own: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        detached = x.detach()
        output = own(detached)
        at_zero = own(detached.new_full((), _SMALL)) / _SMALL
        factor = torch.where(detached == 0, at_zero, output / torch.where(detached == 0, 1, detached))
        return _WithBackward.apply(x, output, lambda grad: grad * factor)  # type: ignore[no-any-return, no-untyped-call]

    return forward


class _WithBackward(torch.autograd.Function):
    """(input, output) → output, with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor, backward: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.own_backward = backward
        return output.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.own_backward(grad), None, None
