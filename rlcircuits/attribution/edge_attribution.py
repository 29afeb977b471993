"""Edge attribution: sequences in, one score for every edge of every sequence out.

The phases, in order:

1. Options (``attribute``). The graph, the backend and the caller's options become one ``AttributionOptions``.
2. Plan (``MemoryBudget``). The sequences are sorted by length and grouped into batches within a token budget.
3. Score (``attribute_batches``). Each batch takes one forward, one backward to activations, and the contraction of
   the two. A batch that runs out of memory halves the budget, and the rest is planned again.
4. Collect (``attribute``). The scores return to the order of the sequences, as float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, itemsize, run_batches
from rlcircuits.attribution.options import AttributionOptions
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.recording import recorded, sequence_losses
from rlcircuits.capture.writers import WriterOutputs
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import progress_bar
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence, Batch, PaddingSide, check_sequences, make_batch
from rlcircuits.models.frozen import differentiable, frozen

__all__ = ["EdgeScores", "attribute", "attribute_batches", "graph_of", "plan_attribution"]

HALF_SCALE = 2**10
"""What the loss of a float16 model is multiplied by, so that gradients do not underflow; a power of two is exact."""


@validate_arguments
def attribute(
    model: Any,
    sequences: Sequence[AnswerSequence],
    granularity: str = defaults.GRANULARITY,
    batch_tokens: int | None = None,
    backend: str | None = None,
    *,
    corrupted: Sequence[AnswerSequence] | None = None,
    padding_side: PaddingSide = "right",
    recompute: bool = False,
    progress: bool = False,
) -> EdgeScores:
    """Score every edge of the residual-stream graph for every sequence.

    For a sequence with loss ℓ (mean cross-entropy over its answer tokens, in nats), with x_v the residual stream as
    reader v reads it and o_u what writer u adds to the residual stream,

        W[u→v] = − Σ_t ⟨ ∂ℓ/∂x_v[t] , o_u[t] ⟩        (arXiv 2509.21044; arXiv 2310.10348)

    This is the first-order effect on ℓ of removing u from what v reads. One forward and one backward to activations
    score a whole batch; each sequence keeps its own gradients. The model's parameters, hooks and modes are the same
    after the call as before, also after an error.

    Args:
        model: a Hugging Face causal LM, a ``Checkpoint``, or a TransformerLens ``TransformerBridge``.
        sequences: what to score; all answer tokens count.
        granularity: ``sublayer``; ``head`` for every attention head as its own writer and its own q, k and v reader
            (with grouped queries, each query head reads its own copy of k and v); or ``kv-head``, the same with one k
            and one v reader for each key/value head.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the free memory.
        backend: ``triton``, ``matmul`` or ``reference`` (float64); by default the fastest that the model can use.
        corrupted: for each sequence another one of the same prompt and answer lengths. Then o_u(clean) −
            o_u(corrupted) takes the place of o_u: activation patching instead of zero ablation.
        padding_side: ``right`` or ``left``. The scores do not depend on it, and ``right`` needs no attention mask.
        recompute: gradient checkpointing, for long sequences: keep each block's input only, and run the block again
            in the backward. The scores are the same; memory falls, at the cost of one more forward.
        progress: show a progress bar on stderr.

    Returns:
        The scores and losses in the order of ``sequences``, float32 on the CPU.

    Raises:
        RLCircuitsError: a model that is not supported; an unknown granularity, padding side or backend, or a backend
            that cannot run on the model; a token budget below one; a sequence with an empty prompt or answer, a token
            id outside the vocabulary, or more tokens than the context; corrupted sequences whose number or lengths
            differ; a non-finite loss or score; a reader that no gradient reaches; too little memory for one sequence.
    """
    checkpoint = Checkpoint.of(model)
    sequences, corrupted = list(sequences), None if corrupted is None else list(corrupted)
    backend = choose_backend(backend, next(checkpoint.model.parameters()))
    graph = graph_of(checkpoint, granularity)
    _check_padding_side(checkpoint, padding_side)
    budget = MemoryBudget(checkpoint, sequences, batch_tokens)
    options = AttributionOptions(graph, backend, corrupted, padding_side, recompute)
    values = torch.zeros(len(sequences), *graph.mask.shape, dtype=torch.float32)
    loss = torch.zeros(len(sequences), dtype=torch.float32)
    with progress_bar(progress) as bar:
        task = bar.add_task("attribution", total=len(sequences))
        for indices, scores, losses in attribute_batches(checkpoint, budget, budget.plan(), options):
            values[list(indices)] = scores
            loss[list(indices)] = losses
            bar.advance(task, len(indices))
    return EdgeScores(values, loss, graph, backend)


def graph_of(checkpoint: Checkpoint, granularity: str) -> EdgeGraph:
    """Return the edge graph of a checkpoint.

    Raises:
        RLCircuitsError: an unknown granularity.
    """
    parts = checkpoint.parts
    return build_graph(
        len(parts.blocks), parts.n_heads, granularity, parallel=parts.parallel, n_kv_heads=parts.n_kv_heads
    )


def _check_padding_side(checkpoint: Checkpoint, padding_side: str) -> None:
    """Raise RLCircuitsError if padding on this side changes what the model computes."""
    if padding_side == "left" and checkpoint.parts.counts_columns:
        raise RLCircuitsError(
            f"padding_side is 'left', but the attention temperature of {type(checkpoint.model).__name__} counts "
            "padding as positions, so that left padding changes what the model computes; use 'right'"
        )


def plan_attribution(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], batch_tokens: int | None = None
) -> list[BatchIndices]:
    """Return the batches that :func:`attribute` would make, as indices of ``sequences``, longest first.

    Raises:
        RLCircuitsError: a budget below one token, or a sequence that the model cannot score.
    """
    return MemoryBudget(checkpoint, sequences, batch_tokens).plan()


def attribute_batches(
    checkpoint: Checkpoint, budget: MemoryBudget, batches: Sequence[BatchIndices], options: AttributionOptions
) -> Generator[tuple[BatchIndices, Tensor, Tensor], None, None]:
    """Score one batch after another. The model is frozen while the generator runs.

    Args:
        checkpoint: the model to score.
        budget: the sequences, and how to plan batches once one runs out of memory.
        batches: the batches to score, as indices of ``budget.sequences``.
        options: how to score them.

    Yields:
        The indices of a batch, its scores [batch, W, R] and its losses [batch], float32 on the CPU.

    Raises:
        RLCircuitsError: as :func:`attribute` does.
    """
    if options.corrupted is not None:
        check_corrupted_sequences(checkpoint, budget.sequences, options.corrupted)

    def score(indices: BatchIndices) -> tuple[Tensor, Tensor]:
        with differentiable():
            return _attribute_batch(checkpoint, budget.sequences, indices, options)

    with frozen(checkpoint.model):
        for indices, (scores, losses) in run_batches(budget, score, batches):
            yield indices, scores, losses


def _attribute_batch(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], indices: BatchIndices, options: AttributionOptions
) -> tuple[Tensor, Tensor]:
    """Return the scores [batch, W, R] and losses [batch] of the sequences at ``indices``, both on the CPU."""
    model, parts, graph = checkpoint.model, checkpoint.parts, options.graph
    batch = make_batch(sequences, indices, options.padding_side).to(checkpoint.device)
    corrupted = _corrupted_outputs(checkpoint, indices, options)
    loss_scale = HALF_SCALE if next(model.parameters()).dtype == torch.float16 else 1
    count, positions = batch.input_ids.shape
    shape = BatchShape(count, positions, parts.width, itemsize(checkpoint))
    contraction = GroupedContraction(graph, BACKENDS[options.backend](), shape)
    with recorded(
        model, parts, graph, batch, on_reader_grads=contraction.on_reader_grads, recompute=options.recompute
    ) as recording:
        losses = sequence_losses(recording.logits, batch)
        contraction.set_writers([_minus(writers, corrupted) for writers in recording.writers])
        # The leaf's gradient itself is not used; asking for it runs the backward through every reader.
        torch.autograd.grad(loss_scale * losses.sum(), recording.entry)
    # Read last, because reading a tensor of an accelerator waits for all work queued there.
    scores, losses = contraction.finish().div(loss_scale).float().cpu(), losses.detach().float().cpu()
    _check_finite(model, batch, scores, losses)
    return scores, losses


def _corrupted_outputs(
    checkpoint: Checkpoint, indices: BatchIndices, options: AttributionOptions
) -> dict[range, WriterOutputs]:
    """Return what each writer adds to the residual stream on the corrupted sequences; nothing without any."""
    if options.corrupted is None:
        return {}
    batch = make_batch(options.corrupted, indices, options.padding_side).to(checkpoint.device)
    with recorded(checkpoint.model, checkpoint.parts, options.graph, batch) as recording:
        return {writers.indices: writers for writers in recording.writers}


def _minus(writers: WriterOutputs, corrupted: dict[range, WriterOutputs]) -> WriterOutputs:
    return writers.minus(corrupted[writers.indices]) if corrupted else writers


def _check_finite(model: torch.nn.Module, batch: Batch, scores: Tensor, losses: Tensor) -> None:
    """Raise RLCircuitsError, naming the sequence and the cause, for a loss or score that is NaN or infinite."""
    for what, per_sequence in (("loss", losses), ("score", scores.sum((1, 2)))):
        if bad := first_non_finite(batch, per_sequence):
            raise explain_non_finite(model, batch, f"{bad} has a non-finite {what}")


def check_corrupted_sequences(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], corrupted: Sequence[AnswerSequence]
) -> None:
    """Raise RLCircuitsError unless each sequence has a corrupted one of the same lengths that the model can score."""
    if len(corrupted) != len(sequences):
        raise RLCircuitsError(
            f"{len(corrupted)} corrupted sequences for {len(sequences)} sequences; one each is needed"
        )
    for index, (clean, other) in enumerate(zip(sequences, corrupted, strict=True)):
        lengths = [(len(s.prompt_ids), len(s.answer_ids)) for s in (clean, other)]
        if lengths[0] != lengths[1]:
            raise RLCircuitsError(
                f"corrupted sequence {index} has {lengths[1][0]} prompt and {lengths[1][1]} answer tokens; "
                f"sequence {index} has {lengths[0][0]} and {lengths[0][1]}, and positions must match one to one"
            )
    parts = checkpoint.parts
    check_sequences(corrupted, vocabulary=parts.vocabulary, context=parts.context, what="corrupted sequence")
