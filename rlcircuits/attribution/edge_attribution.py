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

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, itemsize, run_batches
from rlcircuits.attribution.options import AttributionOptions
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.recording import recorded, sequence_losses
from rlcircuits.capture.writers import WriterOutputs
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import CROSS_ENTROPY, GRANULARITIES
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import progress_bar
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph, check_granularity
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence, Batch, PaddingSide, check_sequences, make_batch
from rlcircuits.models.frozen import differentiable, frozen
from rlcircuits.models.parts import ModelParts

__all__ = ["EdgeScores", "attribute", "attribute_batches", "empty_scores", "fill_rows", "graph_of", "plan_attribution"]

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
    metric: str | AttributedMetric | MetricFunction = CROSS_ENTROPY,
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
    after the call as before, also after an error. Another ``metric`` takes the place of ℓ.

    Args:
        model: a Hugging Face causal LM, a ``Checkpoint``, or a TransformerLens ``TransformerBridge``.
        sequences: what to score; all answer tokens count.
        granularity: ``sublayer``; ``head`` for every attention head as its own writer and its own q, k and v reader
            (with grouped queries, each query head reads its own copy of k and v); or ``kv-head``, the same with one k
            and one v reader for each key/value head.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the free memory.
        backend: ``triton``, ``matmul`` or ``reference`` (float64); by default the fastest that the model can use.
        metric: what is differentiated: ``cross_entropy``; ``logprob``, its negative; ``logit_diff``, the margin of the
            answer's tokens; ``rlcircuits.logit_diff(answer, foil)``; ``rlcircuits.kl_to(reference)``; or a function
            ``(logits, batch) → [batch]``, of the logits [scored, vocabulary] at the scored positions, whose
            ``batch.rows`` say which sequence each is of.
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
            differ; a metric that is not known, does not fit the sequences, or does not return one number a sequence
            that depends on the logits; a non-finite loss, metric or score; a reader that no gradient reaches; too
            little memory for one sequence.
    """
    checkpoint = Checkpoint.of(model)
    sequences, corrupted = list(sequences), None if corrupted is None else list(corrupted)
    backend = choose_backend(backend, next(checkpoint.model.parameters()))
    graph = graph_of(checkpoint, granularity)
    _check_padding_side(checkpoint, padding_side)
    budget = MemoryBudget(checkpoint, sequences, batch_tokens)
    options = AttributionOptions(graph, backend, corrupted, padding_side, recompute, make_metric(metric))
    whole = empty_scores(len(sequences), options)
    with progress_bar(progress) as bar:
        task = bar.add_task("attribution", total=len(sequences))
        for indices, scores in attribute_batches(checkpoint, budget, budget.plan(), options):
            fill_rows(whole, indices, scores)
            bar.advance(task, len(indices))
    return whole


def empty_scores(count: int, like: AttributionOptions | EdgeScores) -> EdgeScores:
    """Return scores of ``count`` sequences, all zero, that are made in the same way, to be filled."""
    values = torch.zeros(count, *like.graph.mask.shape, dtype=torch.float32)
    losses, measured = torch.zeros(2, count, dtype=torch.float32)
    return EdgeScores(values, losses, like.graph, like.backend, like.how, measured)


def fill_rows(whole: EdgeScores, rows: Sequence[int], part: EdgeScores) -> None:
    """Put the scores of some sequences into their rows."""
    whole.values[list(rows)] = part.values
    whole.loss[list(rows)] = part.loss
    whole.metric_values[list(rows)] = part.metric_values


def graph_of(checkpoint: Checkpoint, granularity: str) -> EdgeGraph:
    """Return the edge graph of a checkpoint.

    Raises:
        RLCircuitsError: an unknown granularity, or one of heads that the model's heads do not allow.
    """
    parts = checkpoint.parts
    check_granularity(granularity)
    if granularity not in granularities(parts):
        raise RLCircuitsError(
            f"granularity is {granularity!r}, which {type(checkpoint.model).__name__} cannot have: {parts.no_heads}; "
            "use 'sublayer'"
        )
    return build_graph(
        len(parts.blocks), parts.n_heads, granularity, parallel=parts.parallel, n_kv_heads=parts.n_kv_heads
    )


def granularities(parts: ModelParts) -> tuple[str, ...]:
    """Return the granularities that the graph of a model can have."""
    return GRANULARITIES if parts.no_heads is None else ("sublayer",)


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
) -> Generator[tuple[BatchIndices, EdgeScores], None, None]:
    """Score one batch after another. The model is frozen while the generator runs.

    Args:
        checkpoint: the model to score.
        budget: the sequences, and how to plan batches once one runs out of memory.
        batches: the batches to score, as indices of ``budget.sequences``.
        options: how to score them.

    Yields:
        The indices of a batch, and its scores.

    Raises:
        RLCircuitsError: as :func:`attribute` does.
    """
    if options.corrupted is not None:
        check_corrupted_sequences(checkpoint, budget.sequences, options.corrupted)
    options.metric.check(checkpoint, budget.sequences)

    def score(indices: BatchIndices) -> EdgeScores:
        with differentiable():
            return _attribute_batch(checkpoint, budget.sequences, indices, options)

    with frozen(checkpoint.model):
        yield from run_batches(budget, score, batches)


def _attribute_batch(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], indices: BatchIndices, options: AttributionOptions
) -> EdgeScores:
    """Return the scores of the sequences at ``indices``."""
    model, parts, graph = checkpoint.model, checkpoint.parts, options.graph
    batch = make_batch(sequences, indices, options.padding_side).to(checkpoint.device)
    corrupted = _corrupted_outputs(checkpoint, indices, options)
    measure = options.metric.on_batch(batch)
    loss_scale = HALF_SCALE if next(model.parameters()).dtype == torch.float16 else 1
    count, positions = batch.input_ids.shape
    shape = BatchShape(count, positions, parts.width, itemsize(checkpoint))
    contraction = GroupedContraction(graph, BACKENDS[options.backend](), shape)
    with recorded(
        model, parts, graph, batch, on_reader_grads=contraction.on_reader_grads, recompute=options.recompute
    ) as recording:
        measured = metric_values(measure, recording.logits, batch, options.metric.name)
        contraction.set_writers([_minus(writers, corrupted) for writers in recording.writers])
        # The leaf's gradient itself is not used; asking for it runs the backward through every reader.
        torch.autograd.grad(loss_scale * measured.sum(), recording.entry)
        losses = measured if measure is sequence_losses else sequence_losses(recording.logits.detach(), batch)
    # Read last, because reading a tensor of an accelerator waits for all work queued there.
    scores, losses = contraction.finish().div(loss_scale).float().cpu(), losses.detach().float().cpu()
    measured = losses if measure is sequence_losses else measured.detach().float().cpu()
    _check_finite(model, batch, scores, losses, measured)
    return EdgeScores(scores, losses, graph, options.backend, options.how, measured)


def metric_values(measure: MetricFunction, logits: Tensor, batch: Batch, name: str) -> Tensor:
    """Return a metric's values, [batch].

    Raises:
        RLCircuitsError: they are not one number for each sequence, or do not depend on the logits.
    """
    values = measure(logits, batch)
    shape = [len(batch.indices)]
    if not isinstance(values, Tensor) or list(values.shape) != shape or not values.is_floating_point():
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise RLCircuitsError(f"metric {name} returned {found}; a tensor of numbers {shape} is wanted, one a sequence")
    if not values.requires_grad:
        raise RLCircuitsError(
            f"metric {name} returned values without a gradient: they do not depend on the logits, or were detached"
        )
    return values


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


def _check_finite(model: torch.nn.Module, batch: Batch, scores: Tensor, losses: Tensor, measured: Tensor) -> None:
    """Raise RLCircuitsError, naming the sequence and the cause, for a loss, metric or score that is not finite."""
    for what, per_sequence in (("loss", losses), ("metric", measured), ("score", scores.sum((1, 2)))):
        if bad := first_non_finite(batch, per_sequence):
            raise explain_non_finite(model, batch, f"{bad} has a non-finite {what}")


def wrong_number(corrupted: int, sequences: int) -> RLCircuitsError:
    """Return the error for a number of corrupted sequences that is not that of the sequences."""
    return RLCircuitsError(f"{corrupted} corrupted sequences for {sequences} sequences; one each is needed")


def check_corrupted_sequences(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], corrupted: Sequence[AnswerSequence]
) -> None:
    """Raise RLCircuitsError unless each sequence has a corrupted one of the same lengths that the model can score."""
    if len(corrupted) != len(sequences):
        raise wrong_number(len(corrupted), len(sequences))
    for index, (clean, other) in enumerate(zip(sequences, corrupted, strict=True)):
        lengths = [(len(s.prompt_ids), len(s.answer_ids)) for s in (clean, other)]
        if lengths[0] != lengths[1]:
            raise RLCircuitsError(
                f"corrupted sequence {index} has {lengths[1][0]} prompt and {lengths[1][1]} answer tokens; "
                f"sequence {index} has {lengths[0][0]} and {lengths[0][1]}, and positions must match one to one"
            )
    parts = checkpoint.parts
    check_sequences(corrupted, vocabulary=parts.vocabulary, context=parts.context, what="corrupted sequence")
