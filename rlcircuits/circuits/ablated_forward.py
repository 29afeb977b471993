"""The ablated forward: the model's own forward, with edges outside a circuit replaced.

The phases of one batch:

1. Replacement (``rlcircuits.circuits.replacements``). õ_u, what a removed edge carries: nothing, a mean, or what the
   writer writes on a corrupted sequence.
2. Forward. Hooks keep o_u − õ_u of each writer u when it has run (``rlcircuits.circuits.writer_differences``), where
   o_u is what u writes *in this run*, downstream of what was removed before.
3. Readers (``rlcircuits.circuits.reader_inputs``). Each reader v reads x_v = x − Σ (o_u − õ_u) over its removed edges.
   The stream itself is not changed: it is the sum of what the writers write in this run.

The unembedding runs on the scored positions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, run_batches
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.recording import forward_logits, select_scored, sequence_losses
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.ablated_readers import hook_ablated_readers
from rlcircuits.circuits.edge_mask import EdgeMask, edge_mask
from rlcircuits.circuits.memory import ablation_budget
from rlcircuits.circuits.reader_inputs import ReaderInputs
from rlcircuits.circuits.replacements import Replacement, make_replacement
from rlcircuits.circuits.writer_differences import WriterDifferences
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.progress import progress_bar
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.graph.sequences import AnswerSequence, Batch, make_batch
from rlcircuits.models.frozen import frozen
from rlcircuits.models.hooks import Hooks


@dataclass(frozen=True, eq=False)
class Ablated:
    """What a model says once edges are removed."""

    logits: tuple[Tensor, ...]
    """For each sequence [answer tokens, vocabulary] on the CPU, in the model's dtype."""
    loss: Tensor
    """[sequences] on the CPU: the mean cross-entropy over the answer tokens, in nats. float32, or float64 for a
    float64 model."""

    def __repr__(self) -> str:
        loss = f"mean loss {float(self.loss.mean()):.3g}" if len(self.loss) else "no loss"
        return short_repr(self, format_count(len(self.logits), "sequence"), loss)


@validate_arguments
def ablated(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    graph_mask: Any,
    ablation: str = "zero",
    *,
    corrupted: Sequence[AnswerSequence] | None = None,
    reference: Sequence[AnswerSequence] | None = None,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> Ablated:
    """Return what a model says when the edges outside a mask are replaced.

    Reader v reads x_v − Σ (o_u − õ_u), summed over the writers u whose edge to v is removed, where o_u is what u writes
    *in the ablated run itself*, and õ_u is what replaces it. Behind a post-norm, heads are removed from the norm's
    input. With every edge kept, the model's own logits are returned bit for bit.

    Args:
        checkpoint: a Hugging Face causal LM, a ``Checkpoint``, or a TransformerLens ``TransformerBridge``.
        sequences: what to run; the logits at the answer tokens are returned.
        graph_mask: bool [writers, readers], true where an edge is kept, with the writers and readers of
            ``attribute``'s graph of any granularity but ``expert``; or [sequences, writers, readers], a mask for each
            sequence; or a ``Circuit``. Numbers from 0 to 1 keep a share of an edge.
        ablation: what replaces a removed edge: ``zero``; ``mean``, the writer's mean output over all tokens of the
            reference sequences; ``mean-positional``, that at each position; or ``resample``, its output on the
            sequence's corrupted one.
        corrupted: for ``resample``, one for each sequence, of the same prompt and answer lengths.
        reference: for the means, the sequences over which is averaged; by default ``sequences``.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        progress: show a progress bar on stderr.

    Returns:
        Logits and losses in the order of ``sequences``.

    Raises:
        RLCircuitsError: a mask that does not fit the model or the number of sequences, an unknown ablation, corrupted
            or reference sequences that do not fit; a sequence that the model cannot score; a non-finite loss.
    """
    checkpoint = Checkpoint.of(checkpoint)
    sequences = list(sequences)
    mask = edge_mask(checkpoint, graph_mask, len(sequences))
    logits: list[Tensor] = [torch.empty(0)] * len(sequences)
    losses = torch.zeros(len(sequences), dtype=_loss_dtype(checkpoint))
    with frozen(checkpoint.model), progress_bar(progress) as bar:
        task = bar.add_task("ablation", total=len(sequences))
        replacement = make_replacement(
            checkpoint,
            mask.graph,
            ablation,
            sequences,
            corrupted=corrupted,
            reference=reference,
            batch_tokens=batch_tokens,
        )
        budget = ablation_budget(checkpoint, mask.graph, sequences, batch_tokens)

        def keep(run: AblatedBatch) -> None:
            found, loss = run.logits.cpu(), sequence_losses(run.logits, run.batch).cpu()
            check_finite(checkpoint, run.batch, loss)
            rows = run.batch.rows.cpu()
            for row, index in enumerate(run.batch.indices):
                logits[index] = found[rows == row]
                losses[index] = loss[row]
            bar.advance(task, len(run.batch.indices))

        run_ablated_batches(checkpoint, budget, [mask], replacement, keep)
    return Ablated(tuple(logits), losses)


@dataclass(frozen=True)
class AblatedBatch:
    """One batch's ablated forward.

    Args:
        mask: The place of the mask among those that were asked for.
        batch: The batch, on the model's device.
        logits: [scored, vocabulary], at the scored positions.
    """

    mask: int
    batch: Batch
    logits: Tensor


def run_ablated_batches(
    checkpoint: Checkpoint,
    budget: MemoryBudget,
    masks: Sequence[EdgeMask],
    replacement: Replacement,
    use: Callable[[AblatedBatch], None],
) -> None:
    """Run each batch once for each mask. The model must be frozen. What replaces edges is computed once a batch.

    A batch that runs out of memory, in the model or in ``use``, is split, and begun again with the first mask: results
    are kept by sequence and mask, so that the later of two equal results may replace the earlier.

    Args:
        checkpoint: The model.
        budget: The sequences, and how to plan batches once one runs out of memory.
        masks: The masks, of one graph.
        replacement: What replaces removed edges.
        use: Called with each run.

    Raises:
        RLCircuitsError: one sequence alone does not fit the memory.
    """

    def run(indices: BatchIndices) -> None:
        batch = make_batch(budget.sequences, indices).to(checkpoint.device)
        values = replacement.of(checkpoint, masks[0].graph, indices)
        for place, mask in enumerate(masks):
            use(AblatedBatch(place, batch, ablated_logits(checkpoint, batch, mask.of(indices), values)))

    for _ in run_batches(budget, run):
        pass


@torch.no_grad()
def ablated_logits(
    checkpoint: Checkpoint,
    batch: Batch,
    mask: EdgeMask,
    replacement: Tensor | None,
    more_hooks: Callable[[Hooks], None] = lambda hooks: None,
) -> Tensor:
    """Return the logits [scored, vocabulary] of one ablated forward.

    Args:
        checkpoint: The model, frozen.
        batch: The batch, on the model's device.
        mask: The edges that are removed, for all sequences or for each of the batch.
        replacement: õ, [writers, 1 or batch, 1 or pos, width]; None for zero.
        more_hooks: Registers further hooks, which then see the model's stream before it is changed.
    """
    parts = checkpoint.parts
    differences = WriterDifferences(parts, mask.graph, replacement)
    with Hooks() as hooks:
        more_hooks(hooks)
        if bool(mask.removed.any()):
            differences.hook(hooks)
            hook_ablated_readers(hooks, parts, mask.graph, ReaderInputs(parts, mask, differences))
        hooks.replace_input(parts.unembedding, lambda hidden: select_scored(batch, hidden))
        return forward_logits(checkpoint.model, batch)[0]


def check_finite(checkpoint: Checkpoint, batch: Batch, loss: Tensor) -> None:
    """Raise RLCircuitsError, naming the sequence and the cause, for a loss [batch] that is NaN or infinite."""
    if bad := first_non_finite(batch, loss):
        raise explain_non_finite(checkpoint.model, batch, f"{bad} has a non-finite loss in the ablated forward")


def _loss_dtype(checkpoint: Checkpoint) -> torch.dtype:
    return torch.float64 if checkpoint.model.dtype == torch.float64 else torch.float32
