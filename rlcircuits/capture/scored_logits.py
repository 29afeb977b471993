"""The logits at a batch's scored positions, a few rows at a time, so that no large table of logits is ever held.

1. The model runs once on the batch. The unembedding gets only the first rows of the scored positions.
2. For the other rows the model's own forward runs again with its body replaced by what it returned before. So the head
   is the model's own, with whatever it does after the unembedding: a soft-cap (Gemma 2) or a divisor (Granite).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlcircuits.capture.recording import forward_logits, select_scored
from rlcircuits.graph.sequences import Batch
from rlcircuits.models.hooks import Hooks, forward_replaced
from rlcircuits.models.parts import ModelParts

__all__ = ["ScoredLogits", "scored_logits"]


@dataclass(frozen=True)
class ScoredLogits:
    """The logits of some of a batch's scored positions."""

    rows: slice
    """Which of the batch's scored positions: a slice of ``batch.targets``."""
    hidden: Tensor
    """What the unembedding reads, the output of the final norm: [rows, width], in the model's dtype."""
    logits: Tensor
    """[rows, vocabulary], in the model's dtype."""


@torch.no_grad()
def scored_logits(model: Any, parts: ModelParts, batch: Batch, most_rows: int) -> Iterator[ScoredLogits]:
    """Yield the logits at the scored positions, in order, at most ``most_rows`` rows at a time.

    The body runs once. A caller that drops each result before it asks for the next holds one table of logits.

    Args:
        model: The causal LM, in eval mode.
        parts: The parts of the model.
        batch: The batch, on the model's device.
        most_rows: Most rows of one result, at least 1.
    """
    hidden = torch.empty(0)
    returned: list[Any] = []

    def first_rows(stream: Tensor) -> Tensor:
        nonlocal hidden
        hidden = select_scored(batch, stream)
        return hidden[:, :most_rows]

    with Hooks() as hooks:
        if len(batch.targets) > most_rows:
            hook = parts.body.register_forward_hook(lambda _, __, output: returned.append(output))
            hooks.callback(hook.remove)
        hooks.replace_input(parts.unembedding, first_rows)
        logits = forward_logits(model, batch)[0]
    yield ScoredLogits(slice(0, len(logits)), hidden[0, :most_rows], logits)
    del logits
    for start in range(most_rows, len(batch.targets), most_rows):
        some = hidden[:, start : start + most_rows]
        with forward_replaced(parts.body, partial(_return, _with_hidden(returned[0], some))):
            logits = model(input_ids=batch.input_ids[:1, :1], use_cache=False).logits[0]
        yield ScoredLogits(slice(start, start + len(logits)), some[0], logits)
        del logits


def _with_hidden(output: Any, hidden: Tensor) -> Any:
    changed = copy.copy(output)
    changed.last_hidden_state = hidden
    return changed


def _return(output: Any, *_: Any, **__: Any) -> Any:
    return output
