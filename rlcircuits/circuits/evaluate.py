"""Run a list of masks on the same sequences, and measure each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.ablated_forward import AblatedBatch, check_finite, run_ablated_batches
from rlcircuits.circuits.edge_mask import EdgeMask, check_graph
from rlcircuits.circuits.logit_metrics import Metric, answers_kept, kl_divergence
from rlcircuits.circuits.memory import ablation_budget
from rlcircuits.circuits.replacements import make_replacement
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import progress_bar
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.models.frozen import frozen


@dataclass(frozen=True)
class HowAblated:
    """What replaces removed edges, as the arguments of the same names of :func:`rlcircuits.circuits.ablated`."""

    ablation: str = "mean"
    corrupted: Sequence[AnswerSequence] | None = None
    reference: Sequence[AnswerSequence] | None = None
    batch_tokens: int | None = None
    progress: bool = False


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What was measured of each mask on each sequence, float64 [masks, sequences]."""

    metric: Float64Array
    """The metric, higher is better."""
    kl: Float64Array
    """KL(model ‖ ablated), the mean over the answer tokens, in nats."""
    kept: Float64Array
    """1 where every answer token is the most likely one, else 0. Sampled answers have others, even with all edges."""


def evaluate_masks(
    checkpoint: Checkpoint,
    sequences: Sequence[AnswerSequence],
    graph: EdgeGraph,
    masks: Sequence[Tensor],
    metric: Metric,
    how: HowAblated,
) -> Evaluated:
    """Return what is measured of each mask on each sequence. Each batch runs once for each mask, and once in full.

    Args:
        checkpoint: The model.
        sequences: The sequences.
        graph: The graph of the masks.
        masks: bool [writers, readers] each, true where an edge is kept.
        metric: The metric.
        how: What replaces removed edges.
    """
    if not sequences:
        raise RLCircuitsError("there is no sequence to measure a circuit on; at least one is needed")
    check_graph(checkpoint, graph)
    edge_masks = [EdgeMask(graph, (graph.mask & ~kept)[None].double()) for kept in (graph.mask, *masks)]
    found = np.zeros((3, len(masks), len(sequences)))
    with frozen(checkpoint.model), progress_bar(how.progress) as bar:
        task = bar.add_task("ablation", total=len(sequences) * len(edge_masks))
        replacement = make_replacement(
            checkpoint,
            graph,
            how.ablation,
            sequences,
            corrupted=how.corrupted,
            reference=how.reference,
            batch_tokens=how.batch_tokens,
        )
        budget = ablation_budget(checkpoint, graph, sequences, how.batch_tokens)
        plain: Tensor | None = None

        def measure(run: AblatedBatch) -> None:
            nonlocal plain
            bar.advance(task, len(run.batch.indices))
            if run.mask == 0:
                plain = run.logits
                return
            assert plain is not None, "the full mask runs first"
            kl = kl_divergence(run.logits, plain, run.batch)
            check_finite(checkpoint, run.batch, kl)
            values = metric(run.logits, run.batch), kl, answers_kept(run.logits, run.batch)
            if not isinstance(values[0], Tensor) or values[0].shape != kl.shape:
                found_shape = list(getattr(values[0], "shape", ())) or type(values[0]).__name__
                raise RLCircuitsError(
                    f"metric returned {found_shape}; a tensor {list(kl.shape)} is wanted, one a sequence"
                )
            found[:, run.mask - 1, list(run.batch.indices)] = [each.double().cpu().numpy() for each in values]

        run_ablated_batches(checkpoint, budget, edge_masks, replacement, measure)
    return Evaluated(*found)
