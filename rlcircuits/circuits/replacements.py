"""What a removed edge carries in place of what its writer writes.

zero              nothing
mean              what the writer writes on average, over all tokens of the reference sequences
mean-positional   the same average at each position by itself
resample          what the writer writes on the sequence's corrupted one, position by position
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.attribution.corrupted import check_corrupted_sequences
from rlcircuits.attribution.memory_budget import BatchIndices, run_batches
from rlcircuits.capture.recording import forward_logits, select_scored
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.memory import ablation_budget
from rlcircuits.circuits.writer_differences import WriterDifferences
from rlcircuits.common.choices import ABLATIONS
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.sequences import AnswerSequence, Batch, make_batch
from rlcircuits.models.hooks import Hooks


@dataclass(frozen=True)
class Replacement:
    """What replaces the writers' outputs.

    Args:
        corrupted: For each sequence the one whose writers' outputs are taken; None unless ``resample``.
        means: [writers, 1, 1 or pos, width]; None unless a mean is taken.
    """

    corrupted: Sequence[AnswerSequence] | None = None
    means: Tensor | None = None

    def of(self, checkpoint: Checkpoint, graph: EdgeGraph, indices: tuple[int, ...]) -> Tensor | None:
        """Return õ of a batch, [writers, 1 or batch, 1 or pos, width]; None for zero."""
        if self.corrupted is None:
            return self.means
        return written(checkpoint, graph, make_batch(self.corrupted, indices).to(checkpoint.device))


def written(checkpoint: Checkpoint, graph: EdgeGraph, batch: Batch) -> Tensor:
    """Return what every writer writes in the model's own forward, [writers, batch, pos, width]."""
    differences = WriterDifferences(checkpoint.parts, graph)
    with Hooks() as hooks, torch.no_grad():
        differences.hook(hooks)
        hooks.replace_input(checkpoint.parts.unembedding, lambda hidden: select_scored(batch, hidden))
        forward_logits(checkpoint.model, batch)
    return differences.values


def make_replacement(
    checkpoint: Checkpoint,
    graph: EdgeGraph,
    ablation: str,
    sequences: Sequence[AnswerSequence],
    *,
    corrupted: Sequence[AnswerSequence] | None,
    reference: Sequence[AnswerSequence] | None,
    batch_tokens: int | None,
) -> Replacement:
    """Return what replaces the writers' outputs. The model must be frozen.

    Args:
        checkpoint: The model.
        graph: The graph whose writers are replaced.
        ablation: One of ``ABLATIONS``.
        sequences: The sequences that will be run.
        corrupted: For ``resample``, one for each sequence, of the same prompt and answer lengths.
        reference: For the means, the sequences over which is averaged; by default ``sequences``.
        batch_tokens: Most tokens of a batch of the reference sequences.

    Raises:
        RLCircuitsError: an unknown ablation; corrupted sequences that are missing, do not fit or are not used;
            reference sequences that are not used, or too short for a mean at each position.
    """
    if ablation not in ABLATIONS:
        raise RLCircuitsError(f"ablation is {ablation!r}; it must be one of {', '.join(ABLATIONS)}")
    if (corrupted is not None) != (ablation == "resample"):
        needs = "is needed for each sequence" if corrupted is None else "is used by ablation='resample' only"
        raise RLCircuitsError(f"ablation is {ablation!r}, and a corrupted sequence {needs}")
    if reference is not None and not ablation.startswith("mean"):
        raise RLCircuitsError(f"ablation is {ablation!r}; reference sequences are used by the means only")
    if ablation == "zero":
        return Replacement()
    if corrupted is not None:
        check_corrupted_sequences(checkpoint, sequences, corrupted)
        return Replacement(corrupted=corrupted)
    reference = sequences if reference is None else reference
    if not reference:
        raise RLCircuitsError("reference holds no sequence, so that no mean can be taken")
    total, tokens = _sums(checkpoint, graph, reference, batch_tokens)
    if ablation == "mean":
        return Replacement(means=(total.sum(2, keepdim=True) / tokens.sum()).to(checkpoint.model.dtype))
    longest = max((s.input_length for s in sequences), default=0)
    if longest > len(tokens):
        raise RLCircuitsError(
            f"a sequence has {longest} tokens and the longest reference sequence {len(tokens)}, so that later "
            "positions have no mean; use ablation='mean', or longer reference sequences"
        )
    return Replacement(means=(total / tokens[:, None]).to(checkpoint.model.dtype))


def _sums(
    checkpoint: Checkpoint, graph: EdgeGraph, reference: Sequence[AnswerSequence], batch_tokens: int | None
) -> tuple[Tensor, Tensor]:
    """Return the sums of what the writers write, [writers, 1, pos, width], and the tokens in them, [pos]."""
    longest = max(s.input_length for s in reference)
    work = torch.float64 if checkpoint.model.dtype == torch.float64 else torch.float32
    shape = (len(graph.writers), 1, longest, checkpoint.parts.width)
    total = torch.zeros(shape, dtype=work, device=checkpoint.device)
    tokens = torch.zeros(longest, dtype=work, device=checkpoint.device)
    budget = ablation_budget(checkpoint, graph, reference, batch_tokens)

    def of_batch(indices: BatchIndices) -> tuple[Tensor, Tensor]:
        values = written(checkpoint, graph, make_batch(reference, indices).to(checkpoint.device)).to(work)
        lengths = torch.tensor([reference[i].input_length for i in indices], device=values.device)
        is_token = torch.arange(values.shape[2], device=values.device) < lengths[:, None]  # [batch, pos]
        added = torch.einsum("wbtd,bt->wtd", values, is_token.to(work)).to(total.device)
        return added, is_token.sum(0).to(tokens.device)

    for _, (added, more) in run_batches(budget, of_batch):
        total[:, 0, : added.shape[1]] += added
        tokens[: len(more)] += more
    return total, tokens
