"""Whether what a release asserts of a pair's circuits holds, does not hold, or cannot be told.

Both numbers have a least value, and a 95 % interval over resampled questions:

- **holds** if the interval lies at or above the least value;
- **does not hold** if it lies below;
- otherwise **inconclusive**, as it is where the number could not be measured.

The overlap's least value is a share of the smallest overlap that a noise draw has with before. A share of 1 asks that
training keeps as much of the circuit as noise of the update's size does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcircuits.comparison.circuit_checks import CIRCUIT_OVERLAP, CircuitAssertion, CircuitChecks
from rlcircuits.comparison.interval_evidence import p_below
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.comparison.significance import p_in_words

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison


@dataclass(frozen=True)
class CircuitOutcome:
    """The outcome of one assertion about circuits."""

    outcome: Outcome
    words: str
    """``not below the minimum``, ``below the minimum``, ``not clearly above the minimum``, ``not measured``."""
    p: float
    """P-value of the evidence that the number is below its least value; 1 if it was not measured."""


def judge_circuits(asserted: CircuitAssertion) -> CircuitOutcome:
    """Judge one assertion by the rule of this module."""
    low, high = asserted.interval
    if math.isnan(asserted.found + low + high + asserted.least):
        return CircuitOutcome("inconclusive", "not measured", 1.0)
    p = p_below(asserted.found, asserted.interval, asserted.least, CONFIDENCE)
    if low >= asserted.least:
        return CircuitOutcome("holds", "not below the minimum", p)
    if high < asserted.least:
        return CircuitOutcome("does not hold", "below the minimum", p)
    return CircuitOutcome("inconclusive", "not clearly above the minimum", p)


def explain_circuits(comparison: Comparison, asserted: CircuitAssertion, found: CircuitOutcome) -> str:
    """Explain the outcome of one assertion: the numbers behind it.

    Args:
        comparison: what was measured.
        asserted: one of its assertions about circuits.
        found: its outcome.
    """
    checks = comparison.circuits
    assert checks is not None, "something is asserted of them"
    said = f"inconclusive: {found.words}" if found.outcome == "inconclusive" else found.words
    head = f"{comparison.name} ({comparison.algorithm}), {asserted.measure}: {said}"
    if found.words == "not measured":
        return f"{head}\n  {comparison.note or 'too few questions, or no noise draw, could be scored'}"
    low, high = asserted.interval
    overlap = asserted.measure == CIRCUIT_OVERLAP
    number = "Jaccard index of before's and after's circuits" if overlap else "f_after(C_before)"
    return "\n".join(
        [
            head,
            f"  {number} {asserted.found:.2f}, 95 % interval [{low:.2f}, {high:.2f}]; at least {asserted.least:.2f} is "
            f"asserted, p of being below = {p_in_words(found.p)}",
            f"  {_overlap_line(checks) if overlap else _faithfulness_line(checks)}",
        ]
    )


def _overlap_line(checks: CircuitChecks) -> str:
    draws = ", ".join(f"{draw:.2f}" for draw in checks.noise)
    return (
        f"that is {checks.minimum_overlap:g} times the smallest overlap of before with a noise draw ({draws}); "
        f"circuits of {checks.n_edges} edges, a share of {checks.size:g}"
    )


def _faithfulness_line(checks: CircuitChecks) -> str:
    return (
        f"after's own circuit has {checks.own_faithfulness:.2f}; circuits of {checks.n_edges} edges, a share of "
        f"{checks.size:g}, {checks.ablation} ablation, judged on {checks.judged} questions that they were not found on"
    )
