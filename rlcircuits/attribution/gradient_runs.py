"""The forwards and backwards of one batch: at the clean run, or along the path from the corrupted run to it.

Attribution patching (``eap``) differentiates at the clean run. Integrated gradients (``eap-ig``) differentiate at
points of the straight path between what the first block reads in the two runs, z̃ (corrupted) and z (clean),

    W[u→v] = − Σ_t ⟨ (1/m) Σ_k ∂M/∂x_v[t] at z̃ + α_k (z − z̃) , o_u[t](clean) − o_u[t](corrupted) ⟩

(arXiv 2403.17806, "EAP-IG inputs"). ``clean-corrupted`` takes the two ends, α = 0 and 1. A score is linear in the
gradients, so they are added up over the points and contracted once. The phases:

1. The ends (:func:`_run`). The corrupted and the clean input each run once, and keep what the writers write. An end
   that is a point of the path runs with its backward.
2. The points between. Each is a forward and a backward, from a mixture of the two inputs of the first block.
3. The contraction of the mean gradients with the writers' differences.

The metric is always that of the clean sequence: its answer's tokens are scored, whatever the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcircuits.attribution.attributed_metrics import MetricFunction
from rlcircuits.attribution.options import AttributionOptions
from rlcircuits.capture.edge_scales import edge_scales
from rlcircuits.capture.reader_grads import OnReaderGrads
from rlcircuits.capture.recording import recorded, sequence_losses
from rlcircuits.capture.writers import AnyOutputs
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.choices import EAP
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.contraction.grouped import GroupedContraction
from rlcircuits.contraction.summed import SummedGrads
from rlcircuits.graph.sequences import Batch

HALF_SCALE = 2**10
"""What the loss of a float16 model is multiplied by, so that gradients do not underflow; a power of two is exact."""

CORRUPTED, CLEAN = 0.0, 1.0
"""The ends of the path."""


@dataclass(frozen=True)
class BatchRuns:
    """What the runs of a batch all need.

    Args:
        checkpoint: The model.
        batch: The clean sequences.
        corrupted: The corrupted ones, in the same layout; None for zero ablation.
        options: How to score.
        measure: The metric's function for the batch.
    """

    checkpoint: Checkpoint
    batch: Batch
    corrupted: Batch | None
    options: AttributionOptions
    measure: MetricFunction

    @property
    def loss_scale(self) -> int:
        """What the scores must be divided by."""
        return HALF_SCALE if next(self.checkpoint.model.parameters()).dtype == torch.float16 else 1

    def finish(self, contraction: GroupedContraction) -> Tensor:
        """Return the scores that were contracted, float32 [matrices, writers, readers], on the model's device."""
        scores = contraction.finish().div(self.loss_scale).float()
        scales = edge_scales(self.checkpoint.parts, self.options.graph, scores.device)
        return scores if scales is None else scores * scales.to(scores.dtype)


@dataclass(frozen=True)
class _Run:
    """What one run left: its writers, what its first block read, the metric's values and the losses, [batch] each."""

    writers: list[AnyOutputs]
    entry: Tensor
    measured: Tensor
    losses: Tensor


def contract_gradients(runs: BatchRuns, contraction: GroupedContraction) -> tuple[Tensor, Tensor]:
    """Run a batch and contract its gradients. ``runs.finish(contraction)`` then returns the scores.

    Returns:
        The metric's values and the losses of the clean run, [batch] each, on the model's device.

    Raises:
        RLCircuitsError: the metric returned something else than one number a sequence that depends on the logits.
    """
    if runs.options.estimator.method == EAP:
        corrupted = None if runs.corrupted is None else _run(runs, runs.corrupted)
        clean = _run(runs, runs.batch, contraction.on_reader_grads, contraction=contraction, minus=corrupted)
        return clean.measured, clean.losses
    assert runs.corrupted is not None, "the options were checked"
    sums = SummedGrads()
    alphas = runs.options.estimator.alphas()
    ends = {
        alpha: _run(runs, batch, sums.add if alpha in alphas else None, weight=1 / len(alphas))
        for alpha, batch in ((CORRUPTED, runs.corrupted), (CLEAN, runs.batch))
    }
    for alpha in alphas:
        if alpha not in ends:
            start = torch.lerp(ends[CORRUPTED].entry, ends[CLEAN].entry, alpha)
            _run(runs, runs.batch, sums.add, weight=1 / len(alphas), start=start)
    contraction.set_writers(_differences(ends[CLEAN], ends[CORRUPTED]))
    sums.deliver(contraction.on_reader_grads)
    return ends[CLEAN].measured, ends[CLEAN].losses


def _run(
    runs: BatchRuns,
    batch: Batch,
    on_reader_grads: OnReaderGrads | None = None,
    *,
    contraction: GroupedContraction | None = None,
    minus: _Run | None = None,
    weight: float = 1,
    start: Tensor | None = None,
) -> _Run:
    """Run a forward, and with ``on_reader_grads`` a backward.

    Args:
        runs: The batch.
        batch: Its clean or its corrupted sequences.
        on_reader_grads: Called with the gradients of some readers; None for no backward.
        contraction: Gets the writers before the backward; None if it gets them later.
        minus: The run whose writers' outputs are subtracted there.
        weight: What the metric is multiplied by.
        start: What the first block reads, by default the embeddings of ``batch``.
    """
    checkpoint, options, measure = runs.checkpoint, runs.options, runs.measure
    recompute = options.recompute and on_reader_grads is not None
    with recorded(
        checkpoint.model,
        checkpoint.parts,
        options.graph,
        batch,
        on_reader_grads=on_reader_grads,
        recompute=recompute,
        start=start,
        rules=options.estimator.rules,
    ) as recording:
        measured = _metric_values(measure, recording.logits, runs.batch, options.metric.name)
        if contraction is not None:
            done = _Run(recording.writers, recording.entry, measured, measured)
            contraction.set_writers(recording.writers if minus is None else _differences(done, minus))
        if on_reader_grads is not None:
            _check_gradient(measured, options.metric.name)
            loss = runs.loss_scale * measured.sum() * weight if weight != 1 else runs.loss_scale * measured.sum()
            # The leaf's gradient itself is not used; asking for it runs the backward through every reader.
            torch.autograd.grad(loss, recording.entry)
        measured = measured.detach()
        losses = measured if measure is sequence_losses else sequence_losses(recording.logits.detach(), runs.batch)
        return _Run(recording.writers, recording.entry.detach(), measured, losses)


def _differences(clean: _Run, corrupted: _Run) -> list[AnyOutputs]:
    theirs = {writers.indices: writers for writers in corrupted.writers}
    # Both runs have the same writers, of the same kind.
    return [writers.minus(theirs[writers.indices]) for writers in clean.writers]  # type: ignore[arg-type]


def _metric_values(measure: MetricFunction, logits: Tensor, batch: Batch, name: str) -> Tensor:
    """Return a metric's values, [batch]. Raises RLCircuitsError unless they are one number for each sequence."""
    values = measure(logits, batch)
    shape = [len(batch.indices)]
    if not isinstance(values, Tensor) or list(values.shape) != shape or not values.is_floating_point():
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise RLCircuitsError(f"metric {name} returned {found}; a tensor of numbers {shape} is wanted, one a sequence")
    return values


def _check_gradient(measured: Tensor, name: str) -> None:
    if not measured.requires_grad:
        raise RLCircuitsError(
            f"metric {name} returned values without a gradient: they do not depend on the logits, or were detached"
        )
