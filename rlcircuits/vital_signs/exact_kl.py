"""The exact KL divergence of two models at the scored positions of given answers.

KL(p ‖ q) = Σ_v p_v log(p_v / q_v) at a position needs both models' whole distributions there, [tokens, vocabulary]
each. For an answer of 400 tokens and a vocabulary of 150,000 that is 240 MB in float32. There are three ways:

- :func:`stored_kl`, of two tables that kept their distributions. One model is in memory at a time. The tables refuse
  more than ``DISTRIBUTION_BYTES``, so this is for small models and few tokens.
- :func:`exact_kl`, with both models loaded. Both run on a batch, and a few rows of logits at a time are reduced to one
  number a row. No table of logits is kept, whatever the number of answers.
- The estimate k3 (:func:`rlcircuits.vital_signs.kl_per_point.k3`), from the log-probabilities of the sampled tokens
  alone. It is always there, and has the noise of the sampling.

float32 rather than float16 is stored: a float16 log-probability near −10 is off by up to 0.004, which is the size of a
small update's divergence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, run_batches
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.scored_logits import scored_logits
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import advance, progress_bar
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence, check_sequences, make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.token_log_probs import check_temperature, log_softmax, logit_count, rows_at_a_time

__all__ = ["exact_kl", "stored_kl"]

_ROWS = 1024
"""Rows of stored distributions that are compared at a time."""


@validate_arguments
def exact_kl(
    p: Any,
    q: Any,
    sequences: Sequence[AnswerSequence],
    *,
    batch_tokens: int | None = None,
    temperature: float = 1.0,
    progress: bool = False,
) -> Float64Array:
    """Return KL(p ‖ q) = Σ_v p_v log(p_v / q_v) at each answer token's position, in nats.

    Averaged over answers that p drew at this temperature, it is the divergence per token of p from q, without the
    noise of the tokens' draw that an estimate from the drawn tokens has (arXiv 2509.24372 uses such an estimate).

    Args:
        p: a model: a Hugging Face causal LM, a ``Checkpoint``, or a TransformerLens ``TransformerBridge``.
        q: another model with the same vocabulary; both are in memory at once.
        sequences: prompts with answers, usually of p; all answer tokens count.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit beside both models.
        temperature: what both models' logits are divided by, above 0.
        progress: show a progress bar on stderr.

    Returns:
        float64 [tokens], all sequences' answer tokens one after another; infinite where q rules out a token of p.

    Raises:
        RLCircuitsError: what :func:`~rlcircuits.vital_signs.token_log_probs.answer_log_probs` raises, of either model;
            models with different numbers of logits.
    """
    first, second = Checkpoint.of(p), Checkpoint.of(q)
    sequences = list(sequences)
    check_temperature(temperature)
    _check_vocabularies(logit_count(first), logit_count(second))
    budget = MemoryBudget(first, sequences, batch_tokens)
    check_sequences(sequences, vocabulary=second.parts.vocabulary, context=second.parts.context)
    lengths = np.array([len(sequence.answer_ids) for sequence in sequences], dtype=np.int64)
    ends = lengths.cumsum()
    found = np.zeros(int(lengths.sum()))
    rows = min(rows_at_a_time(first), rows_at_a_time(second))

    def score(indices: BatchIndices) -> None:
        places = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in indices])
        batch = make_batch(sequences, indices)
        one, other = batch.to(first.device), batch.to(second.device)
        ours = scored_logits(first.model, first.parts, one, rows)
        theirs = scored_logits(second.model, second.parts, other, rows)
        for left, right in zip(ours, theirs, strict=True):
            log_p, log_q = (log_softmax(part.logits, temperature) for part in (left, right))
            found[places[left.rows]] = _kl(log_p, log_q.to(log_p.device)).cpu().numpy()
        only_nan = torch.from_numpy(np.where(np.isnan(found[places]), np.nan, 0.0))
        per_sequence = torch.zeros(len(indices), dtype=torch.float64).index_add(0, batch.rows, only_nan)
        if bad := first_non_finite(batch, per_sequence):
            raise explain_non_finite(first.model, one, f"{bad} has a KL divergence that is NaN")

    with frozen(first.model), frozen(second.model), progress_bar(progress) as bar:
        task = bar.add_task("KL divergence", total=len(sequences))
        for indices, _ in run_batches(budget, score):
            advance(bar, task, len(indices), sum(sequences[index].input_length for index in indices))
    return found


@validate_arguments
def stored_kl(p: AnswerLogProbs, q: AnswerLogProbs) -> Float64Array:
    """Return KL(p ‖ q) = Σ_v p_v log(p_v / q_v) at each answer token's position, from two tables, in nats.

    Args:
        p: one model's table, made with ``distributions=True``.
        q: another model's table of the same sequences, made in the same way.

    Returns:
        float64 [tokens], all sequences' answer tokens one after another.

    Raises:
        RLCircuitsError: a table without distributions; tables of different answers, temperatures or vocabularies.
    """
    check_same_answers(p, q)
    _check_vocabularies(p.vocabulary, q.vocabulary)
    for table in (p, q):
        if table.distributions is None:
            raise RLCircuitsError(
                f"log-probabilities of {table.model!r} were made without distributions, which an exact KL divergence "
                f"needs; make them with distributions=True"
            )
    found = np.zeros(len(p.log_probs))
    for start in range(0, len(found), _ROWS):
        rows = slice(start, start + _ROWS)
        log_p, log_q = (torch.from_numpy(table.distributions[rows]) for table in (p, q))  # type: ignore[index]
        found[rows] = _kl(log_p, log_q).numpy()
    return found


def check_same_answers(*tables: AnswerLogProbs) -> None:
    """Raise RLCircuitsError unless all tables are of the same sequences at the same temperature."""
    first = tables[0]
    for table in tables[1:]:
        if table.key != first.key or not np.array_equal(table.offsets, first.offsets):
            raise RLCircuitsError(
                f"the log-probabilities of {first.model!r} and {table.model!r} are of different answers; both models "
                f"must score the same ones, in the same order"
            )
        if table.temperature != first.temperature:
            raise RLCircuitsError(
                f"the log-probabilities of {first.model!r} are at temperature {first.temperature:g} and those of "
                f"{table.model!r} at {table.temperature:g}; one temperature is wanted"
            )


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the divergence of each row, float64 [rows]. A token that p rules out adds nothing, whatever q says."""
    log_p, log_q = log_p.double(), log_q.double()
    terms = torch.where(log_p == -torch.inf, 0.0, log_p.exp() * (log_p - log_q))
    return terms.sum(-1)


def _check_vocabularies(first: int, second: int) -> None:
    if first != second:
        raise RLCircuitsError(
            f"the models have {first:,} and {second:,} logits at a position; a KL divergence needs one vocabulary"
        )
