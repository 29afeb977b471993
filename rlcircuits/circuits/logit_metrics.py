"""What is measured of an ablated forward: one number a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlcircuits.capture.recording import sequence_losses
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import Batch

Metric = Callable[[Tensor, Batch], Tensor]
"""From the logits [scored, vocabulary] of a batch, and the batch, to one number for each of its sequences [batch].

``batch.rows`` says which sequence each row of the logits is of, ``batch.targets`` the answer's token there, and
``batch.indices`` the sequences' places in the list of all. Higher is better."""


def log_probability(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean log-probability of each sequence's answer tokens, in nats: minus the loss."""
    return -sequence_losses(logits, batch)


def logit_difference(foils: Sequence[int]) -> Metric:
    """Return the metric of the MIB benchmark: at the first answer token, its logit less that of another token.

    Args:
        foils: the other token of each sequence, in the order of all sequences.
    """

    def metric(logits: Tensor, batch: Batch) -> Tensor:
        if max(batch.indices) >= len(foils):
            raise RLCircuitsError(f"foils has {len(foils)} tokens; one for each sequence is needed")
        is_first = torch.ones_like(batch.rows, dtype=torch.bool)
        is_first[1:] = batch.rows[1:] != batch.rows[:-1]
        places = is_first.nonzero().flatten()
        others = torch.tensor([foils[i] for i in batch.indices], device=logits.device)
        return logits[places, batch.targets[places]] - logits[places, others]

    return metric


def kl_divergence(logits: Tensor, reference: Tensor, batch: Batch) -> Tensor:
    """Return each sequence's KL(model ‖ ablated), the mean over its answer tokens, in nats, [batch].

    Args:
        logits: of the ablated model, [scored, vocabulary].
        reference: of the model itself, of the same shape.
        batch: the batch.
    """
    ours, theirs = (_working(each).log_softmax(-1) for each in (logits, reference))
    return _mean_by_sequence(torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1), batch)


def answers_kept(logits: Tensor, batch: Batch) -> Tensor:
    """Return for each sequence 1 if every answer token is the most likely one, else 0: float64 [batch].

    Then greedy decoding from the prompt gives the same answer, since each token is predicted from the tokens before it.
    """
    right = (logits.argmax(-1) == batch.targets).double()
    return (_mean_by_sequence(right, batch) == 1).double()


def _mean_by_sequence(values: Tensor, batch: Batch) -> Tensor:
    count = values.new_zeros(len(batch.indices)).index_add(0, batch.rows, torch.ones_like(values))
    return values.new_zeros(len(batch.indices)).index_add(0, batch.rows, values) / count


def _working(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
