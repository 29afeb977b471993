"""Check by numbers that a mixture writes the sum of its experts, and what is named beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlcircuits.capture.batch_slices import WHOLE_BATCH
from rlcircuits.capture.expert_outputs import ExpertOutputs
from rlcircuits.capture.model_graph import model_graph
from rlcircuits.capture.recording import recorded
from rlcircuits.capture.stream_check import Agreement, agree, probe_batch, stream_tolerance
from rlcircuits.models.frozen import frozen
from rlcircuits.models.hooks import Hooks
from rlcircuits.models.mixtures import Mixture
from rlcircuits.models.parts import ModelParts

__all__ = ["verify_experts"]


def verify_experts(model: nn.Module, parts: ModelParts) -> Agreement:
    """Check on a few tokens that each mixture writes its experts' outputs, and beside them only what is named.

    What it writes beside them is what it returns when its experts are made to return zero.

    Args:
        model: The causal LM.
        parts: Its parts, whose experts can be nodes.

    Returns:
        The largest relative difference of all mixtures, and the one that is allowed in the model's dtype.

    Raises:
        RLCircuitsError: the two do not agree, naming the first MLP.
    """
    graph, tolerance = model_graph(parts, "expert"), stream_tolerance(model)
    read: dict[nn.Module, Tensor] = {}
    wrote: dict[nn.Module, Tensor] = {}
    mixtures = {layer: block.mixture for layer, block in enumerate(parts.blocks) if block.mixture is not None}
    largest = 0.0
    with frozen(model), torch.no_grad(), Hooks() as hooks:
        for mixture in mixtures.values():
            hooks.observe_input(mixture.module, lambda hidden, module=mixture.module: read.update({module: hidden}))  # type: ignore[misc]
            hooks.observe_output(mixture.module, lambda out, module=mixture.module: wrote.update({module: out}))  # type: ignore[misc]
        with recorded(model, parts, graph, probe_batch(model, parts)) as recording:
            experts = {each.indices.start: each for each in recording.writers if isinstance(each, ExpertOutputs)}
        for layer, mixture in mixtures.items():
            hidden = read[mixture.module]
            found = experts[graph.writers.index(f"mlp.{layer}.e0")].outputs(WHOLE_BATCH).double().sum(0)
            found = found / parts.residual_multiplier
            if mixture.shared:
                found = found + _without_experts(mixture, hidden)
            whole = wrote[mixture.module].double().view(hidden.shape)
            what = f"the sum of the experts of mlp.{layer}, and what is named beside them,"
            largest = max(largest, agree(found, whole, tolerance, what, "what the mixture writes"))
    return Agreement("the sum of each mixture's experts, and what the mixture writes", largest, tolerance)


def _without_experts(mixture: Mixture, hidden: Tensor) -> Tensor:
    """Return what a mixture writes where its experts return zero, float64 in the shape of what it reads."""
    with Hooks() as hooks:
        hooks.replace_output(mixture.experts, torch.zeros_like)
        returned = mixture.module.forward(hidden)
    whole: Tensor = returned[0] if isinstance(returned, tuple) else returned
    return whole.double().view(hidden.shape)
