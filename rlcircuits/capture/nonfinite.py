"""Say where a non-finite number came from: the sequence, and the first module that made it."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from rlcircuits.capture.recording import forward_logits
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import Batch


def first_non_finite(batch: Batch, per_sequence: Tensor) -> str | None:
    """The name of the first sequence of the batch whose entry of ``per_sequence`` [batch] is not finite, or None."""
    bad = (~torch.isfinite(per_sequence)).nonzero()
    return f"sequence {batch.indices[int(bad[0])]}" if len(bad) else None


def first_bad_weight(model: nn.Module) -> str | None:
    """The name of the first parameter that holds NaN or Inf, or None."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name
    return None


def explain_non_finite(model: nn.Module, batch: Batch, what: str) -> RLCircuitsError:
    """The error for a batch with a NaN or infinite result, found by one more forward.

    what: the sentence that says which result it is; the cause is put behind it.
    """
    weight = first_bad_weight(model)
    if weight is not None:
        return RLCircuitsError(f"{what}: weight {weight} holds NaN or Inf")
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
    return RLCircuitsError(what + where)
