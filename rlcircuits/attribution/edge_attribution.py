"""Edge attribution: sequences in, one score for every edge of every sequence out.

The phases, in order:

1. Options (``attribute``). The graph, the backend and the caller's options become one ``AttributionOptions``.
2. Plan (``MemoryBudget``). The sequences are sorted by length and grouped into batches within a token budget.
3. Score (``attribute_batches``). Each batch takes one forward, one backward to activations (integrated gradients take
   several, see ``rlcircuits.attribution.gradient_runs``), and the contraction of the two. A batch that runs out of
   memory halves the budget, and the rest is planned again.
4. Collect (``attribute``). The scores return to the order of the sequences, as float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.attribution.corrupted import check_corrupted_sequences
from rlcircuits.attribution.gradient_runs import BatchRuns, contract_gradients
from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget, itemsize, one_behind, run_batches
from rlcircuits.attribution.options import AttributionOptions, Estimator
from rlcircuits.capture.model_graph import model_graph
from rlcircuits.capture.nonfinite import explain_non_finite, first_non_finite
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import CROSS_ENTROPY, EAP, Method, Points
from rlcircuits.common.devices import CopiesOnCPU
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import advance, progress_bar
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.contraction.grouped import BatchShape, GroupedContraction
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence, Batch, PaddingSide, make_batch
from rlcircuits.models.backward_rules import BackwardRules, check_rules
from rlcircuits.models.frozen import differentiable, frozen
from rlcircuits.models.images import check_reads_images

__all__ = [
    "EdgeScores",
    "attribute",
    "attribute_batches",
    "check_fit",
    "empty_scores",
    "fill_rows",
    "graph_of",
    "plan_attribution",
]


@validate_arguments
def attribute(
    model: Any,
    sequences: Sequence[AnswerSequence],
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
            (with grouped queries, each query head reads its own copy of k and v); ``kv-head``, the same with one k
            and one v reader for each key/value head; or ``expert``, the sublayer graph with a writer for each expert of
            a mixture. A model with layers that mix tokens without attention (Mamba, linear attention) has
            no heads.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the free memory.
        backend: ``triton``, ``matmul`` or ``reference`` (float64); by default the fastest that the model can use.
        metric: what is differentiated: ``cross_entropy``; ``logprob``, its negative; ``logit_diff``, the margin of the
            answer's tokens; ``rlcircuits.logit_diff(answer, foil)``; ``rlcircuits.kl_to(reference)``; or a function
            ``(logits, batch) → [batch]``, of the logits [scored, vocabulary] at the scored positions, whose
            ``batch.rows`` say which sequence each is of.
        method: where gradients are taken. ``eap``: at the clean run. ``eap-ig``: averaged over ``steps`` points of the
            straight path from the corrupted embeddings to the clean ones (arXiv 2403.17806, EAP-IG inputs).
            ``clean-corrupted``: averaged over both runs. The last two need ``corrupted``.
        steps: points of ``eap-ig``, by default 5; each costs a forward and a backward.
        points: where on its step each point of ``eap-ig`` lies: ``midpoint``, the default, whose error falls with the
            square of ``steps``; ``left``, as EAP-IG's own code, which takes the corrupted end and never the clean one;
            or ``right``, which with one step is ``eap``.
        rules: rules that replace parts of the backward: ``relp`` (``rlcircuits.RELP``, arXiv 2508.21258), ``gim``
            (``rlcircuits.GIM``, arXiv 2505.17630), or any of ``norm_scale``, ``activation``, ``gate_half``,
            ``attention``, ``softmax_temperature`` and ``qkv_shares`` (``rlcircuits.models.backward_rules``).
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
            differ; a method that is not known or needs corrupted sequences; steps or points without ``eap-ig``; rules
            that are not known, exclude each other, or are not defined for the model; a metric that is not known, does
            not fit the sequences, or does not return one number a sequence that depends on the logits; a non-finite
            loss, metric or score; a reader that no gradient reaches; too little memory for one sequence.
    """
    checkpoint = Checkpoint.of(model)
    sequences, corrupted = list(sequences), None if corrupted is None else list(corrupted)
    backend = choose_backend(backend, next(checkpoint.model.parameters()))
    graph = graph_of(checkpoint, granularity)
    _check_padding_side(checkpoint, padding_side)
    budget = MemoryBudget(checkpoint, sequences, batch_tokens)
    estimator = Estimator(make_metric(metric), method, steps, points, BackwardRules.named(rules))
    options = AttributionOptions(graph, backend, corrupted, padding_side, recompute, estimator)
    whole = empty_scores(len(sequences), options)
    with progress_bar(progress) as bar:
        task = bar.add_task("attribution", total=len(sequences))
        for indices, scores in attribute_batches(checkpoint, budget, budget.plan(), options):
            fill_rows(whole, indices, scores)
            advance(bar, task, len(indices), sum(sequences[index].input_length for index in indices))
    return whole


def empty_scores(count: int, like: AttributionOptions | EdgeScores) -> EdgeScores:
    """Return scores of ``count`` sequences, all zero, that are made in the same way, to be filled."""
    values = torch.zeros(count, *like.graph.mask.shape, dtype=torch.float32)
    losses, measured = (torch.zeros(count, dtype=torch.float32) for _ in range(2))
    return EdgeScores(values, losses, like.graph, like.backend, like.how, measured)


def fill_rows(whole: EdgeScores, rows: Sequence[int], part: EdgeScores) -> None:
    """Put the scores of some sequences into their rows."""
    whole.values[list(rows)] = part.values
    whole.loss[list(rows)] = part.loss
    whole.metric_values[list(rows)] = part.metric_values


def graph_of(checkpoint: Checkpoint, granularity: str) -> EdgeGraph:
    """Return the edge graph of a checkpoint.

    Raises:
        RLCircuitsError: an unknown granularity, or one of heads or experts that the model does not allow.
    """
    graph = model_graph(checkpoint.parts, granularity)
    if granularity == "expert":
        checkpoint.verify_experts()
    return graph


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
    check_fit(checkpoint, budget.sequences, options)

    def score(indices: BatchIndices) -> Callable[[], EdgeScores]:
        with differentiable():
            return _attribute_batch(checkpoint, budget.sequences, indices, options)

    with frozen(checkpoint.model):
        begun = run_batches(budget, score, batches)
        if checkpoint.device.type == "cuda":
            begun = one_behind(begun)
        for indices, finish in begun:
            yield indices, finish()


def check_fit(checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], options: AttributionOptions) -> None:
    """Raise RLCircuitsError if corrupted sequences, images, rules or the metric do not fit model and sequences."""
    if options.corrupted is not None:
        check_corrupted_sequences(checkpoint, sequences, options.corrupted)
    if any(sequence.images for sequence in sequences):
        check_reads_images(checkpoint.model.config, checkpoint.name)
    check_rules(options.estimator.rules, checkpoint.parts, checkpoint.model.config)
    options.metric.check(checkpoint, sequences)


def _attribute_batch(
    checkpoint: Checkpoint, sequences: Sequence[AnswerSequence], indices: BatchIndices, options: AttributionOptions
) -> Callable[[], EdgeScores]:
    """Return what waits for the scores of the sequences at ``indices`` and returns them."""
    model, graph = checkpoint.model, options.graph
    batch = make_batch(sequences, indices, options.padding_side).to(checkpoint.device)
    corrupted = None
    if options.corrupted is not None:
        corrupted = make_batch(options.corrupted, indices, options.padding_side).to(checkpoint.device)
    runs = BatchRuns(checkpoint, batch, corrupted, options, options.metric.on_batch(batch))
    count, positions = batch.input_ids.shape
    shape = BatchShape(count, positions, checkpoint.parts.width, itemsize(checkpoint))
    contraction = GroupedContraction(graph, BACKENDS[options.backend](), shape)
    measured, losses = contract_gradients(runs, contraction)
    same = measured is losses
    scores = runs.finish(contraction)
    sums = scores.sum((1, 2)).to(losses.device)
    copies = CopiesOnCPU(scores, torch.stack([losses.float(), measured.float(), sums]))

    def finish() -> EdgeScores:
        values, (losses, measured, sums) = copies.wait()
        measured = losses if same else measured
        _check_finite(model, batch, losses, measured, sums)
        return EdgeScores(values, losses, graph, options.backend, options.how, measured)

    return finish


def _check_finite(model: torch.nn.Module, batch: Batch, losses: Tensor, measured: Tensor, sums: Tensor) -> None:
    """Raise RLCircuitsError, naming the sequence and the cause, for a loss, metric or score that is not finite."""
    for what, per_sequence in (("loss", losses), ("metric", measured), ("score", sums)):
        if bad := first_non_finite(batch, per_sequence):
            raise explain_non_finite(model, batch, f"{bad} has a non-finite {what}")
