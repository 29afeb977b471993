"""What is measured of an ablated forward: one number a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlcircuits.capture.sequence_metrics import (
    first_places,
    first_token_difference,
    log_probability,
    mean_by_sequence,
    working,
)
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import Batch

__all__ = ["Metric", "answers_kept", "kl_divergence", "log_probability", "logit_difference"]

Metric = Callable[[Tensor, Batch], Tensor]
"""From the logits [scored, vocabulary] of a batch, and the batch, to one number for each of its sequences [batch].

``batch.rows`` says which sequence each row of the logits is of, ``batch.targets`` the answer's token there, and
``batch.indices`` the sequences' places in the list of all. Higher is better."""


def logit_difference(foils: Sequence[int]) -> Metric:
    """Return the metric of the MIB benchmark: at the first answer token, its logit less that of another token.

    Args:
        foils: the other token of each sequence, in the order of all sequences.
    """

    def metric(logits: Tensor, batch: Batch) -> Tensor:
        if max(batch.indices) >= len(foils):
            raise RLCircuitsError(f"foils has {len(foils)} tokens; one for each sequence is needed")
        others = torch.tensor([foils[i] for i in batch.indices], device=logits.device)
        return first_token_difference(logits, batch, batch.targets[first_places(batch)], others)

    return metric


def kl_divergence(logits: Tensor, reference: Tensor, batch: Batch) -> Tensor:
    """Return each sequence's KL(model ‖ ablated), the mean over its answer tokens, in nats, [batch].

    Args:
        logits: of the ablated model, [scored, vocabulary].
        reference: of the model itself, of the same shape.
        batch: the batch.
    """
    ours, theirs = (working(each).log_softmax(-1) for each in (logits, reference))
    return mean_by_sequence(torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1), batch)


def answers_kept(logits: Tensor, batch: Batch) -> Tensor:
    """Return for each sequence 1 if every answer token is the most likely one, else 0: float64 [batch].

    Then greedy decoding from the prompt gives the same answer, since each token is predicted from the tokens before it.
    """
    right = (logits.argmax(-1) == batch.targets).double()
    return (mean_by_sequence(right, batch) == 1).double()
