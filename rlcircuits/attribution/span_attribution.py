"""Edge attribution by span: the same runs as ``attribute``, with a score matrix for each span of each sequence.

A score is a sum over positions, so it is a sum over spans of what the positions of each span contribute. The forward,
the backward and the gradients are those of :mod:`rlcircuits.attribution.edge_attribution`. Only the contraction is cut
along the spans (:mod:`rlcircuits.contraction.span_shape`), which takes no more products.

What grows is the result: a matrix for each span. A batch has at most as many sequences as have ``SPAN_BYTES`` of
matrices, and with ``out=`` each batch's go to a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.attribution.edge_attribution import check_fit, graph_of
from rlcircuits.attribution.gradient_runs import BatchRuns, contract_gradients
from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, itemsize, run_batches
from rlcircuits.attribution.options import AttributionOptions, Estimator
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import CROSS_ENTROPY, EAP, Method, Points
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ensure_writable_file, write_atomically
from rlcircuits.common.progress import advance, progress_bar
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import GroupedContraction
from rlcircuits.contraction.span_shape import Run, SpanShape
from rlcircuits.graph.answer_spans import AnswerSpans
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.sequences import AnswerSequence, make_batch
from rlcircuits.graph.span_file import SpanFile
from rlcircuits.graph.span_scores import SpanScores, span_rows
from rlcircuits.models.backward_rules import BackwardRules
from rlcircuits.models.frozen import differentiable, frozen

__all__ = ["attribute_spans"]

SPAN_BYTES = 2**29
"""Most bytes of a batch's score matrices, unless those of one sequence take more."""


@validate_arguments
def attribute_spans(
    model: Any,
    sequences: Sequence[AnswerSequence],
    spans: Sequence[AnswerSpans],
    granularity: str = defaults.GRANULARITY,
    batch_tokens: int | None = None,
    backend: str | None = None,
    *,
    metric: str | AttributedMetric | MetricFunction = CROSS_ENTROPY,
    method: Method = EAP,
    steps: int | None = None,
    points: Points | None = None,
    rules: str | Sequence[str] = (),
    corrupted: Sequence[AnswerSequence] | None = None,
    recompute: bool = False,
    progress: bool = False,
    out: str | Path | None = None,
) -> SpanScores:
    """Score every edge for every span of every sequence: the prompt, and each step of the answer.

    A span's score sums over its positions only, so the spans' scores add up to those of :func:`rlcircuits.attribute`.
    The metric is that of the whole answer: a score says what an edge does *at* a span's positions for the whole answer.

    Args:
        model: as of :func:`rlcircuits.attribute`, and so are all arguments that are not named here.
        sequences: what to score.
        spans: the spans of each sequence, such as :func:`rlcircuits.answer_spans` finds.
        granularity: ``sublayer``, ``head``, ``kv-head`` or ``expert``.
        batch_tokens: most tokens, padding included, in a batch.
        backend: the backend of the contraction.
        metric: what is differentiated.
        method: where gradients are taken.
        steps: points of integrated gradients, not steps of the answer.
        points: where on its step each point lies.
        rules: rules that replace parts of the backward.
        corrupted: sequences to patch from.
        recompute: gradient checkpointing.
        progress: show a progress bar on stderr.
        out: a safetensors file that the scores are written to while they are made. The result's values then lie in
            the file, so that they need not fit the memory.

    Returns:
        The scores, in the order of the sequences and of their spans.

    Raises:
        RLCircuitsError: as :func:`rlcircuits.attribute`; spans whose number or lengths are not those of the sequences;
            a file that cannot be written.
    """
    checkpoint = Checkpoint.of(model)
    sequences, spans, corrupted = list(sequences), list(spans), None if corrupted is None else list(corrupted)
    backend = choose_backend(backend, next(checkpoint.model.parameters()))
    graph = graph_of(checkpoint, granularity)
    budget = MemoryBudget(checkpoint, sequences, batch_tokens)
    check_spans(sequences, spans)
    estimator = Estimator(make_metric(metric), method, steps, points, BackwardRules.named(rules))
    options = AttributionOptions(graph, backend, corrupted, "right", recompute, estimator)
    if out is None:
        scores = _empty(spans, options)
        _fill(scores, checkpoint, budget, spans, options, progress=progress)
        return scores

    of_scoring: list[OSError] = []

    def write(partial: Path) -> None:
        file = SpanFile(partial, *span_rows(spans), len(spans), graph, backend, options.how)
        tensors = (file.values, *span_rows(spans), file.loss, file.metric_values)
        scores = SpanScores(*tensors, graph, backend, options.how)
        try:
            _fill(scores, checkpoint, budget, spans, options, progress=progress)
        except OSError as error:  # a file that the model or the metric reads
            of_scoring.append(error)
            raise
        file.close()

    path = ensure_writable_file(out, "out")
    try:
        write_atomically(path, write)
    except OSError as error:
        if error in of_scoring:
            raise
        raise RLCircuitsError(f"{out} cannot be written: {error.strerror or error}") from error
    return SpanScores.load(path)


def check_spans(sequences: Sequence[AnswerSequence], spans: Sequence[AnswerSpans]) -> None:
    """Raise RLCircuitsError unless there are spans for each sequence, and they have its tokens."""
    if len(spans) != len(sequences):
        raise RLCircuitsError(f"spans are those of {len(spans)} sequences; there are {len(sequences)}")
    for place, (sequence, each) in enumerate(zip(sequences, spans, strict=True)):
        wanted = len(sequence.prompt_ids), len(sequence.answer_ids)
        if (each.prompt, sum(each.steps)) != wanted:
            raise RLCircuitsError(
                f"the spans of sequence {place} have {each.prompt} tokens of prompt and {sum(each.steps)} of answer; "
                f"it has {wanted[0]} and {wanted[1]}"
            )


def _empty(spans: Sequence[AnswerSpans], options: AttributionOptions) -> SpanScores:
    """Return scores that are all zero, in memory."""
    rows = span_rows(spans)
    values = torch.zeros(len(rows[0]), *options.graph.mask.shape)
    loss, measured = torch.zeros(len(spans)), torch.zeros(len(spans))
    return SpanScores(values, *rows, loss, measured, options.graph, options.backend, options.how)


def _fill(
    scores: SpanScores,
    checkpoint: Checkpoint,
    budget: MemoryBudget,
    spans: Sequence[AnswerSpans],
    options: AttributionOptions,
    *,
    progress: bool,
) -> None:
    """Score one batch after another, and put what each gives into its rows."""
    check_fit(checkpoint, budget.sequences, options)

    def score(indices: BatchIndices) -> tuple[Tensor, Tensor, Tensor]:
        with differentiable():
            return _score_batch(checkpoint, budget.sequences, indices, spans, options)

    first = torch.tensor([0, *(len(each) for each in spans)]).cumsum(0).tolist()
    with progress_bar(progress) as bar, frozen(checkpoint.model):
        task = bar.add_task("attribution", total=len(spans))
        batches = list(_small_enough(budget.plan(), spans, options.graph))
        for indices, (values, losses, measured) in run_batches(budget, score, batches):
            places = [
                first[indices[run.sequence]] + spans[indices[run.sequence]].positions.index(range(run.start, run.stop))
                for run in _runs(indices, spans)
            ]
            scores.values[places] = values
            scores.loss[list(indices)], scores.metric_values[list(indices)] = losses, measured
            advance(bar, task, len(indices), sum(budget.sequences[index].input_length for index in indices))


def _score_batch(
    checkpoint: Checkpoint,
    sequences: Sequence[AnswerSequence],
    indices: BatchIndices,
    spans: Sequence[AnswerSpans],
    options: AttributionOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the score matrices [runs, writers, readers], the losses and the metric's values, on the CPU."""
    batch = make_batch(sequences, indices).to(checkpoint.device)
    corrupted = None
    if options.corrupted is not None:
        corrupted = make_batch(options.corrupted, indices).to(checkpoint.device)
    runs = BatchRuns(checkpoint, batch, corrupted, options, options.metric.on_batch(batch))
    parts = _runs(indices, spans)
    count, positions = batch.input_ids.shape
    shape = SpanShape(count, positions, checkpoint.parts.width, itemsize(checkpoint), parts)
    contraction = GroupedContraction(options.graph, BACKENDS[options.backend](), shape)
    measured, losses = contract_gradients(runs, contraction)
    scores = runs.finish(contraction).cpu()
    losses, measured = losses.float().cpu(), measured.float().cpu()
    by_sequence = torch.zeros(len(indices)).index_add(
        0, torch.tensor([run.sequence for run in parts]), scores.sum((1, 2))
    )
    for what, per_sequence in (("loss", losses), ("metric", measured), ("score", by_sequence)):
        if bad := first_non_finite(batch, per_sequence):
            raise explain_non_finite(checkpoint.model, batch, f"{bad} has a non-finite {what}")
    return scores, losses, measured


def _runs(indices: BatchIndices, spans: Sequence[AnswerSpans]) -> list[Run]:
    """Return the runs of a batch's spans, without empty ones, in the order of their score matrices."""
    return sorted(
        Run(positions.start, positions.stop, sequence)
        for sequence, index in enumerate(indices)
        for positions in spans[index].positions
        if positions
    )


def _small_enough(
    batches: Sequence[BatchIndices], spans: Sequence[AnswerSpans], graph: EdgeGraph
) -> Iterator[BatchIndices]:
    """Yield the batches, parted where their score matrices would take more than ``SPAN_BYTES``."""
    most = max(1, SPAN_BYTES // (4 * graph.mask.numel()))
    for batch in batches:
        part: list[int] = []
        matrices = 0
        for index in batch:
            if part and matrices + len(spans[index]) > most:
                yield tuple(part)
                part, matrices = [], 0
            part.append(index)
            matrices += len(spans[index])
        yield tuple(part)
