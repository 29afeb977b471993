"""Numbers of a sequence that follow from the logits at its scored positions: one number for each sequence of a batch.

Every function takes logits [scored, vocabulary] of any floating dtype and computes in float32, or in float64 for
float64 logits. ``batch.rows`` says which sequence each row of the logits is of, ``batch.targets`` the answer's token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcircuits.capture.recording import sequence_losses
from rlcircuits.graph.sequences import Batch


def log_probability(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean log-probability of each sequence's answer tokens, in nats: minus the loss."""
    return -sequence_losses(logits, batch)


def first_token_difference(logits: Tensor, batch: Batch, answers: Tensor, foils: Tensor) -> Tensor:
    """Return the logit of one token less that of another, at each sequence's first scored position, [batch].

    Args:
        logits: [scored, vocabulary].
        batch: the batch.
        answers: int64 [batch], a token of each sequence.
        foils: int64 [batch], another.
    """
    places = first_places(batch)
    return working(logits[places, answers]) - working(logits[places, foils])


def logit_margin(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean over each sequence's answer tokens of the token's logit less the highest other logit, [batch]."""
    work = working(logits)
    targets = batch.targets[:, None]
    others = work.scatter(1, targets, -torch.inf).amax(1)
    return mean_by_sequence(work.gather(1, targets)[:, 0] - others, batch)


def kl_divergence_from(logits: Tensor, reference: Tensor, batch: Batch) -> Tensor:
    """Return each sequence's KL(model ‖ reference), the mean over its answer tokens, in nats, [batch].

    Args:
        logits: of the model, [scored, vocabulary].
        reference: of another model, of the same shape.
        batch: the batch.
    """
    ours, theirs = (working(each).log_softmax(-1) for each in (logits, reference))
    return mean_by_sequence((ours.exp() * (ours - theirs)).sum(-1), batch)


def first_places(batch: Batch) -> Tensor:
    """Return the row of the logits at each sequence's first scored position, int64 [batch]."""
    is_first = torch.ones_like(batch.rows, dtype=torch.bool)
    is_first[1:] = batch.rows[1:] != batch.rows[:-1]
    return is_first.nonzero().flatten()


def mean_by_sequence(values: Tensor, batch: Batch) -> Tensor:
    """Return the mean of ``values`` [scored] over each sequence's scored positions, [batch]."""
    count = values.new_zeros(len(batch.indices)).index_add(0, batch.rows, torch.ones_like(values))
    return values.new_zeros(len(batch.indices)).index_add(0, batch.rows, values) / count


def working(logits: Tensor) -> Tensor:
    """Return the logits in float32, or in float64 if they are in float64."""
    return logits if logits.dtype == torch.float64 else logits.float()
