"""What a release asserts of a pair's circuits: the table ``[circuits]`` of a pairs file."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from rlcircuits.common import defaults
from rlcircuits.common.choices import Ablation
from rlcircuits.common.limits import LIMITS
from rlcircuits.common.validation import StrictModel
from rlcircuits.comparison.circuit_checks import CIRCUIT_FAITHFULNESS, CIRCUIT_OVERLAP


class CircuitRules(StrictModel):
    """How a pair's circuits are measured, and what they must reach. Without minimums they are only reported.

    Raises:
        RLCircuitsError: a key is unknown or its value does not fit; the message names the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    minimum_overlap: float | None = Field(
        default=None, gt=0, le=LIMITS["minimum_overlap"].most, allow_inf_nan=False, strict=True
    )
    """Least overlap of before's and after's circuits, as a share of the smallest overlap of before with a noise draw;
    None: nothing is asserted."""
    minimum_faithfulness: float | None = Field(
        default=None, gt=0, le=LIMITS["minimum_faithfulness"].most, allow_inf_nan=False, strict=True
    )
    """Least faithfulness of before's circuit in after; None: nothing is asserted."""
    size: float = Field(default=defaults.CIRCUIT_SIZE, gt=0, le=LIMITS["size"].most, allow_inf_nan=False, strict=True)
    """Share of all edges that a circuit has, of one edge at least."""
    ablation: Ablation = defaults.CIRCUIT_ABLATION
    """What replaces the other edges; see :func:`rlcircuits.circuits.ablated`."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the measures of a verdict that the minimums are about."""
        overlap = () if self.minimum_overlap is None else (CIRCUIT_OVERLAP,)
        return overlap if self.minimum_faithfulness is None else (*overlap, CIRCUIT_FAITHFULNESS)
