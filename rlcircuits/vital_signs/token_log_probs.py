"""One model's log-probabilities of given answers: one forward, no backward.

The phases, in order:

1. Plan. The sequences are sorted by length and grouped into batches within a token budget, as for attribution.
2. Forward. Each batch runs once; the unembedding runs on the scored positions only, and on so few of them at a time
   that a table [rows, vocabulary] in float32 stays below :data:`LOGIT_BYTES`.
3. Reduce. Log-softmax in float32 (float64 for a float64 model), whatever the model's dtype. Of each position three
   numbers are kept: log p of the answer's token, the entropy, and log p of the most likely token.
4. Collect. The numbers return to the order of the sequences, as flat arrays with offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, run_batches
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.scored_logits import scored_logits
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.progress import advance, progress_bar
from rlcircuits.graph.sequences import AnswerSequence, Batch, make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs, sequences_key

__all__ = ["DISTRIBUTION_BYTES", "FEATURE_SEED", "LOGIT_BYTES", "answer_log_probs", "rows_at_a_time"]

LOGIT_BYTES = 2**27
"""Most bytes of a table [rows, vocabulary] in float32. Four such tables exist at once: the logits, their log-softmax,
the probabilities and the terms of the entropy."""

DISTRIBUTION_BYTES = 2**30
"""Most bytes of all log-probabilities at all scored positions, [tokens, vocabulary] in float32, that are kept."""

FEATURE_SEED = 0
"""Seed of the draw of each sequence's position whose features are kept."""


@validate_arguments
def answer_log_probs(
    model: Any,
    sequences: Sequence[AnswerSequence],
    *,
    batch_tokens: int | None = None,
    temperature: float = 1.0,
    features: bool = False,
    distributions: bool = False,
    progress: bool = False,
) -> AnswerLogProbs:
    """Return a model's log-probability of each answer token, with the entropy and the top token's log-probability.

    With logits z at a position and p = softmax(z / temperature) over the whole vocabulary, it is log p of the answer's
    token, −Σ_v p_v log p_v, and max_v log p_v, in nats. The logits are the model's own, soft-cap included.

    Answers that were drawn at a temperature have the probabilities of that temperature. Nothing here undoes ``top_p``
    below 1, whose truncated distribution is another one.

    Args:
        model: a Hugging Face causal LM, a ``Checkpoint``, or a TransformerLens ``TransformerBridge``.
        sequences: prompts with the answers to score; all answer tokens count.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the free memory.
        temperature: what the logits are divided by, above 0.
        features: also keep the final norm's output at one scored position of each sequence, drawn with the fixed seed
            :data:`FEATURE_SEED`, so that two models' features of the same sequences are at the same positions.
        distributions: also keep all log-probabilities at all scored positions, so that the exact KL divergence of two
            models can be had with one model in memory at a time.
        progress: show a progress bar on stderr.

    Returns:
        The numbers in the order of ``sequences``: float32, or float64 of a float64 model. Features are float32.

    Raises:
        RLCircuitsError: a model that is not supported; a token budget below one; a temperature outside its range; a
            sequence that the model cannot score; distributions of more than :data:`DISTRIBUTION_BYTES`; a
            log-probability that is NaN; too little memory for one sequence.
    """
    checkpoint = Checkpoint.of(model)
    sequences = list(sequences)
    check_temperature(temperature)
    budget = MemoryBudget(checkpoint, sequences, batch_tokens)
    table = _Table(checkpoint, sequences, features=features, distributions=distributions)

    def score(indices: BatchIndices) -> None:
        batch = make_batch(sequences, indices).to(checkpoint.device)
        places = table.places(indices)
        for part in scored_logits(checkpoint.model, checkpoint.parts, batch, rows_at_a_time(checkpoint)):
            table.put(places[part.rows], part.hidden, log_softmax(part.logits, temperature), batch.targets[part.rows])
        table.check(checkpoint, batch, places)

    with frozen(checkpoint.model), progress_bar(progress) as bar:
        task = bar.add_task("log-probabilities", total=len(sequences))
        for indices, _ in run_batches(budget, score):
            advance(bar, task, len(indices), sum(sequences[index].input_length for index in indices))
    return table.finish(checkpoint.name, sequences_key(sequences), float(temperature))


def check_temperature(temperature: float) -> None:
    """Raise RLCircuitsError for a temperature at which there is no distribution to speak of."""
    check_number("temperature", temperature)
    if temperature == 0:
        raise RLCircuitsError(
            "temperature is 0, at which every token but one has probability 0; a temperature above 0 is wanted, "
            "and 1 for the model's own distribution"
        )


def rows_at_a_time(checkpoint: Checkpoint) -> int:
    """Return how many rows of logits in float32 :data:`LOGIT_BYTES` hold, at least 1."""
    return max(1, LOGIT_BYTES // (4 * logit_count(checkpoint)))


def logit_count(checkpoint: Checkpoint) -> int:
    """Return the number of the model's logits at a position."""
    weight: Tensor = checkpoint.parts.unembedding.weight  # type: ignore[assignment]
    return int(weight.shape[0])


def log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Return log softmax(logits / temperature) over the last dimension: float32, or float64 of float64 logits."""
    work = logits if logits.dtype == torch.float64 else logits.float()
    return (work if temperature == 1 else work / temperature).log_softmax(-1)


class _Table:
    """The numbers of all sequences, filled batch by batch. A batch that is scored again overwrites its numbers."""

    def __init__(
        self, checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], *, features: bool, distributions: bool
    ) -> None:
        lengths = np.array([len(sequence.answer_ids) for sequence in sequences], dtype=np.int64)
        self.offsets = np.concatenate((np.zeros(1, dtype=np.int64), lengths.cumsum()))
        tokens, self.vocabulary = int(self.offsets[-1]), logit_count(checkpoint)
        dtype = torch.float64 if checkpoint.model.dtype == torch.float64 else torch.float32
        self.numbers = torch.zeros(3, tokens, dtype=dtype)
        self.distributions = None
        if distributions:
            _check_distribution_bytes(tokens, self.vocabulary)
            self.distributions = torch.zeros(tokens, self.vocabulary, dtype=dtype)
        self.features = None
        if features:
            self.features = torch.zeros(len(sequences), checkpoint.parts.width)
            draws = np.random.default_rng(FEATURE_SEED).random(len(sequences))
            # For each token the sequence whose features it has, or −1.
            self.feature_of = torch.full((tokens,), -1)
            self.feature_of[torch.from_numpy(self.offsets[:-1] + (draws * lengths).astype(np.int64))] = torch.arange(
                len(sequences)
            )

    def places(self, indices: BatchIndices) -> Tensor:
        """Return the places of a batch's scored positions among all tokens, int64 [scored]."""
        return torch.cat([torch.arange(self.offsets[i], self.offsets[i + 1]) for i in indices])

    def put(self, places: Tensor, hidden: Tensor, log_probs: Tensor, targets: Tensor) -> None:
        """Store the numbers of some positions.

        Args:
            places: their places among all tokens, int64 [rows], on the CPU.
            hidden: [rows, width].
            log_probs: [rows, vocabulary].
            targets: the answers' tokens, int64 [rows].
        """
        token = log_probs.gather(-1, targets.to(log_probs.device)[:, None])[:, 0]
        entropy = torch.special.entr(log_probs.exp()).sum(-1)
        # Some models (Nemotron-H) return float32 logits whatever their weights are.
        self.numbers[:, places] = torch.stack((token, entropy, log_probs.amax(-1))).to(self.numbers)
        if self.distributions is not None:
            self.distributions[places] = log_probs.to(self.distributions)
        if self.features is not None:
            chosen = (self.feature_of[places] >= 0).nonzero()[:, 0]
            self.features[self.feature_of[places[chosen]]] = hidden[chosen.to(hidden.device)].float().cpu()

    def check(self, checkpoint: Checkpoint, batch: Batch, places: Tensor) -> None:
        """Raise RLCircuitsError, naming the sequence and the cause, where a number is NaN; log 0 is allowed."""
        only_nan = torch.where(self.numbers[:, places].isnan().any(0), torch.nan, 0.0)
        if found := first_non_finite(batch, torch.zeros(len(batch.indices)).index_add(0, batch.rows.cpu(), only_nan)):
            raise explain_non_finite(checkpoint.model, batch, f"{found} has a log-probability that is NaN")

    def finish(self, model: str, key: str, temperature: float) -> AnswerLogProbs:
        """Return the finished table."""
        log_probs, entropies, top = (numbers.contiguous().numpy() for numbers in self.numbers)
        return AnswerLogProbs(
            model=model,
            key=key,
            temperature=temperature,
            vocabulary=self.vocabulary,
            offsets=self.offsets,
            log_probs=log_probs,
            entropies=entropies,
            top_log_probs=top,
            features=_numpy(self.features),
            distributions=_numpy(self.distributions),
        )


def _numpy(tensor: Tensor | None) -> npt.NDArray[Any] | None:
    return None if tensor is None else tensor.numpy()


def _check_distribution_bytes(tokens: int, vocabulary: int) -> None:
    if 4 * tokens * vocabulary > DISTRIBUTION_BYTES:
        raise RLCircuitsError(
            f"the distributions at {tokens:,} scored positions over {vocabulary:,} tokens take "
            f"{4 * tokens * vocabulary / 2**30:.1f} GiB; at most {DISTRIBUTION_BYTES / 2**30:g} GiB is kept. Score "
            f"fewer answers, use exact_kl with both models loaded, or the estimate k3"
        )
