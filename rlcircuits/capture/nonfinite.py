"""Find where a NaN or Inf came from: the sequence, and the first weight or module that has one."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from rlcircuits.capture.recording import forward_logits
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import Batch


def first_non_finite(batch: Batch, per_sequence: Tensor) -> str | None:
    """Return the name of the batch's first sequence whose entry of ``per_sequence`` [batch] is not finite, or None."""
    bad = (~torch.isfinite(per_sequence)).nonzero()
    return f"sequence {batch.indices[int(bad[0])]}" if len(bad) else None


def first_bad_weight(model: nn.Module) -> str | None:
    """Return the name of the first parameter that holds NaN or Inf, or None."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name
    return None


def explain_non_finite(model: nn.Module, batch: Batch, what: str) -> RLCircuitsError:
    """Return the error for a batch with a non-finite result, with the cause that one more forward finds.

    Args:
        model: The model that computed the result.
        batch: The batch.
        what: A sentence that says which result is not finite. The cause is appended.
    """
    weight = first_bad_weight(model)
    if weight is not None:
        return RLCircuitsError(f"{what}: weight {weight} holds NaN or Inf")
    names = {module: name for name, module in model.named_modules()}
    bad: list[str] = []

    def check_output(module: nn.Module, _: object, output: object) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor) and not bool(torch.isfinite(tensor).all()):
            bad.append(names[module])

    with ExitStack() as stack, torch.no_grad():
        for module in names:
            if not list(module.children()):
                stack.callback(module.register_forward_hook(check_output).remove)
        forward_logits(model, batch)
    where = f"; the first module with a non-finite output is {bad[0]}" if bad else "; it arises in the backward"
    return RLCircuitsError(what + where)
