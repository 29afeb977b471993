"""Whether one checkpoint's circuit does what another does: f_after(C_before) and f_before(C_after)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.circuits.evaluate import HowAblated, evaluate_masks
from rlcircuits.circuits.faithfulness_curve import MIB_SIZES, Faithfulness, check_sizes, curve_masks, make_curve
from rlcircuits.circuits.logit_metrics import Metric, log_probability
from rlcircuits.circuits.select import ranking_values
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence


@dataclass(frozen=True, eq=False)
class CrossFaithfulness:
    """One model's faithfulness curves: of its own circuits, and of another checkpoint's."""

    own: Faithfulness
    """f of the circuits that the model's own scores rank highest."""
    other: Faithfulness
    """f of the circuits that the other checkpoint's scores rank highest, in the same model."""

    @property
    def carried(self) -> tuple[float, ...]:
        """f_other − f_own at each size: negative where the other checkpoint's circuit does less of the model."""
        return tuple(float(one) for one in np.subtract(self.other.faithfulness, self.own.faithfulness))


@validate_arguments
def cross_faithfulness(
    checkpoint: Any,
    sequences: Sequence[AnswerSequence],
    own: EdgeScores,
    other: EdgeScores,
    ablation: str = "mean",
    *,
    ranking: str = "absolute",
    metric: Metric | None = None,
    corrupted: Sequence[AnswerSequence] | None = None,
    reference: Sequence[AnswerSequence] | None = None,
    sizes: Sequence[float] = MIB_SIZES,
    batch_tokens: int | None = None,
    progress: bool = False,
) -> CrossFaithfulness:
    """Return how faithful a model's own circuits are, and how faithful another checkpoint's circuits are in it.

    With ``checkpoint`` after, ``own`` after's scores and ``other`` before's, this asks whether the base's circuit still
    carries the trained model's answers.

    Args:
        checkpoint: the model whose edges are removed.
        sequences: what both circuits are judged on.
        own: the model's own scores.
        other: the other checkpoint's scores, of the same graph.
        ablation: what replaces the edges outside a circuit, see ``ablated``.
        ranking: ``absolute`` or ``signed``, see ``find_circuit``.
        metric: what is measured, as in ``faithfulness``.
        corrupted: for ``resample``, one for each sequence, of the same prompt and answer lengths.
        reference: for the means, the sequences over which is averaged; by default ``sequences``.
        sizes: the shares of the edges, ascending; by default MIB's.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        progress: show a progress bar on stderr.

    Raises:
        RLCircuitsError: what ``faithfulness`` refuses.
    """
    import torch

    checkpoint, graph = Checkpoint.of(checkpoint), own.graph
    if not graph.same_as(other.graph):
        raise RLCircuitsError("own and other are scores of different graphs; score both at the same granularity")
    curves = [curve_masks(each.graph, ranking_values(each, ranking), check_sizes(sizes)) for each in (own, other)]
    found = evaluate_masks(
        checkpoint,
        list(sequences),
        graph,
        [graph.mask, torch.zeros_like(graph.mask), *curves[0], *curves[1]],
        metric or log_probability,
        HowAblated(ablation, corrupted, reference, batch_tokens, progress),
    )
    count = len(sizes)
    rows = slice(2, 2 + count), slice(2 + count, 2 + 2 * count)
    return CrossFaithfulness(
        *(
            make_curve(found, each, tuple(sizes), masks, ranking, ablation)
            for each, masks in zip(rows, curves, strict=True)
        )
    )
