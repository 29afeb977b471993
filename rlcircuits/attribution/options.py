"""What stays the same from batch to batch of one attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlcircuits.attribution.attributed_metrics import AttributedMetric, make_metric
from rlcircuits.common.choices import CROSS_ENTROPY
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.sequences import AnswerSequence, PaddingSide


@dataclass(frozen=True)
class AttributionOptions:
    """How batches are scored.

    Raises:
        RLCircuitsError: a padding side other than ``left`` and ``right``.
    """

    graph: EdgeGraph
    """The writers, readers and edges to score."""
    backend: str
    """The contraction's backend, a key of :data:`~rlcircuits.contraction.backends.BACKENDS`."""
    corrupted: Sequence[AnswerSequence] | None = None
    """For each sequence the one whose writer outputs are subtracted, for patching; None for zero ablation."""
    padding_side: PaddingSide = "right"
    """Where shorter sequences of a batch are padded."""
    recompute: bool = False
    """Use gradient checkpointing: run each block again in the backward instead of keeping its activations."""
    metric: AttributedMetric = field(default_factory=lambda: make_metric(CROSS_ENTROPY))
    """What is differentiated."""

    @property
    def how(self) -> HowScored:
        """Return what is recorded with the scores."""
        return HowScored(metric=self.metric.name, corrupted=self.corrupted is not None)

    def __post_init__(self) -> None:
        if self.padding_side not in ("left", "right"):
            raise RLCircuitsError(f"padding_side is {self.padding_side!r}; it must be left or right")
