"""Whether one checkpoint's circuit does what another does: f_after(C_before) and f_before(C_after)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlcircuits.circuits.evaluate import HowAblated
from rlcircuits.circuits.faithfulness_curve import MIB_SIZES, Faithfulness, make_curves
from rlcircuits.circuits.logit_metrics import Metric
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
    if not own.graph.same_as(other.graph):
        raise RLCircuitsError("own and other are scores of different graphs; score both at the same granularity")
    how = HowAblated(ablation, corrupted, reference, batch_tokens, progress)
    values = [ranking_values(each, ranking) for each in (own, other)]
    return CrossFaithfulness(*make_curves(checkpoint, sequences, own.graph, values, ranking, sizes, metric, how))
