"""Edge attribution: sequences in, one score for every edge of every sequence out."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.capture.recording import recorded, sequence_losses
from rlcircuits.capture.writers import WriterOutputs
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.progress import progress_bar
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.graph.edge_graph import EdgeGraph, build_graph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence, Batch, PaddingSide, check_sequences, make_batch, plan_batches
from rlcircuits.models.frozen import differentiable, frozen

__all__ = ["EdgeScores", "attribute", "attribute_batches", "graph_of", "plan_attribution"]

CPU_BATCH_TOKENS = 4096
# Of the accelerator's free memory, how much the automatic budget plans with.
MEMORY_SHARE = 0.6
# What the loss of a float16 model is multiplied by, so that its gradients do not vanish; a power of two.
HALF_SCALE = 2**10


@validate_arguments
def attribute(
    model: Any,
    sequences: Sequence[AnswerSequence],
    granularity: str = "sublayer",
    batch_tokens: int | None = None,
    backend: str | None = None,
    *,
    corrupted: Sequence[AnswerSequence] | None = None,
    padding_side: PaddingSide = "right",
    recompute: bool = False,
    progress: bool = False,
) -> EdgeScores:
    """Score every edge of the residual-stream graph for every sequence.

    For a sequence with loss ℓ (mean cross-entropy over its answer), x_v the residual stream as
    reader v reads it and o_u what writer u wrote to it,

        W[u→v] = − Σ_t ⟨ ∂ℓ/∂x_v[t] , o_u[t] ⟩        (arXiv 2509.21044; arXiv 2310.10348)

    the first-order effect on ℓ of removing u from what v reads. One forward and one backward to
    activations score a whole batch; each sequence keeps its own gradients.

    Args:
        model: a Hugging Face causal LM, a ``Checkpoint``, or a TransformerLens ``TransformerBridge``.
        sequences: what to score; all answer tokens count.
        granularity: ``sublayer``, or ``head`` for every attention head as its own writer and its own
            q, k and v reader (with grouped queries, each query head reads its own copy of k and v), or
            ``kv-head``, the same with one k and one v reader for each key/value head.
        batch_tokens: most tokens, padding included, in a batch; by default from the memory there is.
        backend: ``triton``, ``matmul`` or ``reference`` (float64); by default the fastest that runs here.
        corrupted: for each sequence another of the same prompt and answer lengths; o_u is then
            replaced by o_u(clean) − o_u(corrupted): patching instead of zero ablation.
        padding_side: ``right`` or ``left``; the scores do not depend on it, and right needs no mask.
        recompute: gradient checkpointing, for long sequences: keep each block's input only and run the block
            again in the backward. The same scores with less memory, for the time of one more forward.
        progress: show a progress bar on stderr.

    Returns scores in the order of ``sequences``. The model's parameters, hooks and modes are as
    before, also after an error.

    Raises:
        RLCircuitsError: a model that is not mapped, an unknown granularity, padding side or backend or one that
            cannot run on the model, a token budget below one; a sequence with an empty prompt or answer, a token id
            outside the vocabulary or more tokens than the context; corrupted sequences of another number or other
            lengths; a non-finite loss or score, a reader that no gradient reaches, or no memory for one sequence.
    """
    checkpoint = Checkpoint.of(model)
    sequences, corrupted = list(sequences), None if corrupted is None else list(corrupted)
    name = choose_backend(backend, next(checkpoint.model.parameters()))
    graph = graph_of(checkpoint, granularity)
    plan = plan_attribution(checkpoint, sequences, batch_tokens)
    values = torch.zeros(len(sequences), *graph.mask.shape, dtype=torch.float32)
    loss = torch.zeros(len(sequences), dtype=torch.float32)
    with progress_bar(progress) as bar:
        task = bar.add_task("attribution", total=len(sequences))
        for indices, scores, losses in attribute_batches(
            checkpoint,
            sequences,
            plan,
            graph,
            name,
            corrupted=corrupted,
            padding_side=padding_side,
            recompute=recompute,
        ):
            values[list(indices)] = scores
            loss[list(indices)] = losses
            bar.advance(task, len(indices))
    return EdgeScores(values, loss, graph, name)


def graph_of(checkpoint: Checkpoint, granularity: str) -> EdgeGraph:
    """The graph of a checkpoint. Raises RLCircuitsError for an unknown granularity."""
    parts = checkpoint.parts
    return build_graph(
        len(parts.blocks), parts.n_heads, granularity, parallel=parts.parallel, n_kv_heads=parts.n_kv_heads
    )


def plan_attribution(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], batch_tokens: int | None = None
) -> list[tuple[int, ...]]:
    """The batches that :func:`attribute` would make, as indices of ``sequences``, longest first.

    Raises RLCircuitsError for a budget below one token or a sequence the model cannot score.
    """
    if batch_tokens is not None:
        check_number("batch_tokens", batch_tokens)
    check_sequences(sequences, vocabulary=checkpoint.parts.vocabulary, context=checkpoint.parts.context)
    budget = batch_tokens or _default_batch_tokens(checkpoint)
    return plan_batches(sequences, range(len(sequences)), budget, checkpoint.parts.rotary_switch)


def attribute_batches(
    checkpoint: Checkpoint,
    sequences: Sequence[AnswerSequence],
    plan: Sequence[tuple[int, ...]],
    graph: EdgeGraph,
    backend: str,
    *,
    corrupted: Sequence[AnswerSequence] | None = None,
    padding_side: PaddingSide = "right",
    recompute: bool = False,
) -> Generator[tuple[tuple[int, ...], Tensor, Tensor], None, None]:
    """Score batch after batch of ``plan``: the indices, scores [batch, W, R] and losses [batch], on the CPU.

    A batch that does not fit the memory is halved, and so are all after it that are as large. The model is
    frozen while the generator runs. Raises RLCircuitsError as :func:`attribute` does.
    """
    if padding_side not in ("left", "right"):
        raise RLCircuitsError(f"padding_side is {padding_side!r}; it must be left or right")
    if corrupted is not None:
        _check_corrupted(sequences, corrupted)
        parts = checkpoint.parts
        check_sequences(corrupted, vocabulary=parts.vocabulary, context=parts.context, what="corrupted sequence")
    todo = list(plan)
    with frozen(checkpoint.model):
        while todo:
            indices = todo[0]
            try:
                with differentiable():
                    batch = make_batch(sequences, indices, padding_side).to(checkpoint.device)
                    other = None
                    if corrupted is not None:
                        other = make_batch(corrupted, indices, padding_side).to(checkpoint.device)
                    scores, losses = _attribute_batch(checkpoint, graph, batch, other, backend, recompute)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                budget = _halved_budget(indices, sequences, error)
                left = [i for indices in todo for i in indices]
                todo = plan_batches(sequences, left, budget, checkpoint.parts.rotary_switch)
                # The traceback keeps the failed batch's activations alive.
                error.__traceback__ = None
                _return_memory()
                continue
            todo.pop(0)
            yield indices, scores, losses


def _attribute_batch(
    checkpoint: Checkpoint, graph: EdgeGraph, batch: Batch, corrupted: Batch | None, backend: str, recompute: bool
) -> tuple[Tensor, Tensor]:
    """Scores [batch, W, R] and losses [batch], both on the CPU, of one batch."""
    model, parts = checkpoint.model, checkpoint.parts
    scale = HALF_SCALE if next(model.parameters()).dtype == torch.float16 else 1
    baseline = None
    if corrupted is not None:
        with recorded(model, parts, graph, corrupted) as recording:
            baseline = recording.writers
    count, positions = batch.input_ids.shape
    size = BatchShape(count, positions, parts.width, _itemsize(checkpoint))
    contraction = GroupedContraction(graph, BACKENDS[backend](), size)
    with recorded(
        model, parts, graph, batch, on_reader_grads=contraction.on_reader_grads, recompute=recompute
    ) as recording:
        losses = sequence_losses(recording.logits, batch)
        contraction.set_writers(recording.writers if baseline is None else _differences(recording.writers, baseline))
        # The leaf's gradient itself is not used; asking for it runs the backward through every reader.
        torch.autograd.grad(scale * losses.sum(), recording.entry)
    # Read last: whatever is read of an accelerator waits for all that was asked of it.
    scores, losses = contraction.finish().div(scale).float().cpu(), losses.detach().float().cpu()
    for what, per_sequence in (("loss", losses), ("score", scores.sum((1, 2)))):
        if bad := first_non_finite(batch, per_sequence):
            raise explain_non_finite(model, batch, f"{bad} has a non-finite {what}")
    return scores, losses


def _differences(clean: Sequence[WriterOutputs], corrupted: Sequence[WriterOutputs]) -> list[WriterOutputs]:
    others = {writers.indices: writers for writers in corrupted}
    return [writers.minus(others[writers.indices]) for writers in clean]


def _check_corrupted(sequences: Sequence[AnswerSequence], corrupted: Sequence[AnswerSequence]) -> None:
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


def _default_batch_tokens(checkpoint: Checkpoint) -> int:
    if checkpoint.device.type != "cuda":
        return CPU_BATCH_TOKENS
    free, _ = torch.cuda.mem_get_info(checkpoint.device)
    config = checkpoint.model.config
    inner = getattr(config, "intermediate_size", None) or 4 * checkpoint.parts.width
    # Kept per token and block: the stream before both norms, two writers, q, k, v before and after
    # the rotation, the attention's output, and gate, up and their product.
    per_block = 12 * checkpoint.parts.width + 4 * inner
    return max(1, int(MEMORY_SHARE * free / (per_block * len(checkpoint.parts.blocks) * _itemsize(checkpoint))))


def _itemsize(checkpoint: Checkpoint) -> int:
    return int(next(checkpoint.model.parameters()).element_size())


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no exception class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _halved_budget(indices: tuple[int, ...], sequences: Sequence[AnswerSequence], error: RuntimeError) -> int:
    """The token budget at which the failed batch becomes two. Raises RLCircuitsError for a single sequence."""
    longest = max(sequences[i].input_length for i in indices)
    if len(indices) == 1:
        raise RLCircuitsError(
            f"out of memory on sequence {indices[0]} alone ({longest} tokens); a device with more memory is needed"
        ) from error
    budget = (len(indices) + 1) // 2 * longest
    warnings.warn(
        f"out of memory on a batch of {len(indices)} sequences of up to {longest} tokens; "
        f"going on with half as many (batch_tokens={budget} avoids the failed attempt)",
        stacklevel=5,
    )
    return budget


def _return_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
