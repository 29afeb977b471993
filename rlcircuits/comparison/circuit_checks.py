"""What was found of a pair's circuits, beside what the release asserts of them.

:mod:`rlcircuits.comparison.circuit_outcome` judges it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.effects import Number

CIRCUIT_OVERLAP = "circuit-overlap"
"""Name, among a verdict's measures, of the overlap of before's and after's circuits."""

CIRCUIT_FAITHFULNESS = "circuit-faithfulness"
"""Name of the faithfulness of before's circuit in after."""

_NAN = float("nan")


@dataclass(frozen=True)
class Agreement:
    """How estimates agree with exact effects over some edges, both averaged over the sequences."""

    n_edges: int
    rank_correlation: Number
    """Spearman's; NaN for fewer than three edges."""
    sign_agreement: Number
    """The share of edges whose estimate and effect have the same sign."""


@dataclass(frozen=True)
class CircuitAssertion:
    """One number of a pair's circuits, and the least that it must be."""

    measure: str
    """``CIRCUIT_OVERLAP`` or ``CIRCUIT_FAITHFULNESS``."""
    found: float
    """NaN if it could not be measured."""
    interval: tuple[float, float]
    """95 % interval over resampled questions."""
    least: float
    """NaN if it follows from noise draws of which none could be measured."""


@dataclass(frozen=True)
class CircuitChecks:
    """What was found of a pair's circuits at one size, and the minimums that it must reach. NaN is not measured."""

    size: float
    """The share of all edges that a circuit has."""
    ablation: str
    """What replaces the other edges."""
    minimum_overlap: float | None
    """Least overlap, as a share of the smallest overlap of before with a noise draw; None if nothing is asserted."""
    minimum_faithfulness: float | None
    """Least faithfulness of before's circuit in after; None if nothing is asserted."""
    n_edges: int = 0
    """The edges of each circuit, before pruning."""
    judged: int = 0
    """Sequences that the faithfulness was judged on, one a question, none of which the circuits were found on."""
    overlap: Number = _NAN
    """Jaccard index of before's and after's circuits."""
    overlap_interval: tuple[Number, Number] = (_NAN, _NAN)
    """95 % interval over resampled questions."""
    noise: tuple[float, ...] = ()
    """Jaccard index of before's circuit with that of each noise draw that was scored."""
    faithfulness: Number = _NAN
    """f_after(C_before): the faithfulness of before's circuit in after."""
    faithfulness_interval: tuple[Number, Number] = (_NAN, _NAN)
    """95 % interval over resampled questions."""
    own_faithfulness: Number = _NAN
    """f_after(C_after): that of after's own circuit."""
    estimates: dict[str, tuple[Agreement, ...]] = field(default_factory=dict)
    """By side, how its scores agree with the exact effects: over its best edges, then over random others,
    if there are any."""

    def __repr__(self) -> str:
        return short_repr(self, f"size {self.size:g}", f"overlap {self.overlap:.2f}", f"f {self.faithfulness:.2f}")

    @property
    def assertions(self) -> tuple[CircuitAssertion, ...]:
        """Return what is asserted, beside what was found."""
        found = []
        if self.minimum_overlap is not None:
            least = self.minimum_overlap * min(self.noise, default=math.nan)
            found.append(CircuitAssertion(CIRCUIT_OVERLAP, self.overlap, self.overlap_interval, least))
        if self.minimum_faithfulness is not None:
            interval, least = self.faithfulness_interval, self.minimum_faithfulness
            found.append(CircuitAssertion(CIRCUIT_FAITHFULNESS, self.faithfulness, interval, least))
        return tuple(found)
