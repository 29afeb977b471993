"""Say where a non-finite number came from: the sequence, and the first module that made it."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from rlcircuits.capture import forward_logits
from rlcircuits.errors import RLCircuitsError
from rlcircuits.sequences import Batch


def first_bad_weight(model: nn.Module) -> str | None:
    """The name of the first parameter that holds NaN or Inf, or None."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name
    return None


def explain_non_finite(model: nn.Module, batch: Batch, what: str, per_sequence: Tensor) -> RLCircuitsError:
    """The error for a batch with a NaN or infinite result.

    what: the result's name. per_sequence: [batch], that result, of which at least one is not finite. Runs the forward once more
    to find the first module whose output is not finite.
    """
    row = int((~torch.isfinite(per_sequence)).nonzero()[0])
    message = f"sequence {batch.indices[row]} has a non-finite {what}"
    weight = first_bad_weight(model)
    if weight is not None:
        return RLCircuitsError(f"{message}: weight {weight} holds NaN or Inf")
    names = {module: name for name, module in model.named_modules()}
    bad: list[str] = []

    def look(module: nn.Module, _: object, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor) and not bool(torch.isfinite(tensor).all()):
            bad.append(names[module])

    with ExitStack() as stack, torch.no_grad():
        for module in names:
            if not list(module.children()):
                stack.callback(module.register_forward_hook(look).remove)
        forward_logits(model, batch)
    where = f"; the first module with a non-finite output is {bad[0]}" if bad else "; it arises in the backward"
    return RLCircuitsError(message + where)
