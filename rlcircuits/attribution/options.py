"""What stays the same from batch to batch of one attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlcircuits.attribution.attributed_metrics import AttributedMetric, make_metric
from rlcircuits.common import defaults
from rlcircuits.common.choices import CROSS_ENTROPY, EAP, EAP_IG, METHODS, POINTS, Method, Points
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.graph.edge_graph import EdgeGraph
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.sequences import AnswerSequence, PaddingSide
from rlcircuits.models.backward_rules import NO_RULES, VERSION, BackwardRules

_OFFSETS: dict[str, float] = {"left": 0.0, "midpoint": 0.5, "right": 1.0}


def check_path(method: str, steps: int | None, points: str | None) -> None:
    """Raise RLCircuitsError for an unknown method or kind of points, or for steps or points without a path."""
    for name, found, allowed in (("method", method, METHODS), ("points", points or defaults.POINTS, POINTS)):
        if found not in allowed:
            raise RLCircuitsError(f"{name} is {found!r}; it must be one of {', '.join(allowed)}")
    for name, given in (("steps", steps), ("points", points)):
        if given is not None and method != EAP_IG:
            raise RLCircuitsError(
                f"{name} is {given!r}, and the method is {method!r}, which takes no steps on a path; leave {name} out, "
                f"or use the method {EAP_IG}"
            )
    if steps is not None:
        check_number("steps", steps)


@dataclass(frozen=True)
class Estimator:
    """What is differentiated, and where on the way from the corrupted run to the clean one.

    Raises:
        RLCircuitsError: an unknown method or kind of points, or a number of steps outside its limits.
    """

    metric: AttributedMetric = field(default_factory=lambda: make_metric(CROSS_ENTROPY))
    """What is differentiated."""
    method: Method = EAP
    """Where gradients are taken; see :data:`~rlcircuits.common.choices.METHODS`."""
    steps: int | None = None
    """Steps of integrated gradients; None for the default, and for the other methods."""
    points: Points | None = None
    """Where on each step the gradient is taken; see :data:`~rlcircuits.common.choices.POINTS`. None as for steps."""
    rules: BackwardRules = NO_RULES
    """What replaces parts of the backward."""

    def __post_init__(self) -> None:
        check_path(self.method, self.steps, self.points)

    def check_corrupted(self, given: bool) -> None:
        """Raise RLCircuitsError for a method that needs corrupted sequences where there are none."""
        if self.method != EAP and not given:
            raise RLCircuitsError(
                f"method is {self.method!r}, which needs corrupted sequences (corrupted=...): a path from zero "
                "embeddings would begin where the first norm divides by the length of its input, so that gradients "
                "grow without bound along it; without corrupted sequences use method='eap'"
            )

    def alphas(self) -> tuple[float, ...]:
        """Return the points of the path at which gradients are taken: 0 is the corrupted run, 1 the clean one."""
        if self.method == EAP:
            return (1.0,)
        if self.method == "clean-corrupted":
            return (0.0, 1.0)
        steps, offset = self.steps or defaults.STEPS, _OFFSETS[self.points or defaults.POINTS]
        return tuple((step + offset) / steps for step in range(steps))

    def how(self, corrupted: bool) -> HowScored:
        """Return what is recorded with the scores, for sequences with or without corrupted ones."""
        integrated = self.method == EAP_IG
        return HowScored(
            metric=self.metric.name,
            method=self.method,
            steps=self.steps or defaults.STEPS if integrated else None,
            points=self.points or defaults.POINTS if integrated else None,
            rules=self.rules.names,
            rules_version=VERSION if self.rules.names else None,
            corrupted=corrupted,
        )


@dataclass(frozen=True)
class AttributionOptions:
    """How batches are scored.

    Raises:
        RLCircuitsError: a padding side other than ``left`` and ``right``, or a method that needs corrupted sequences.
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
    estimator: Estimator = field(default_factory=Estimator)
    """What is differentiated, and where."""

    def __post_init__(self) -> None:
        if self.padding_side not in ("left", "right"):
            raise RLCircuitsError(f"padding_side is {self.padding_side!r}; it must be left or right")
        self.estimator.check_corrupted(self.corrupted is not None)

    @property
    def metric(self) -> AttributedMetric:
        """What is differentiated."""
        return self.estimator.metric

    @property
    def how(self) -> HowScored:
        """What is recorded with the scores."""
        return self.estimator.how(self.corrupted is not None)
