"""Write what a comparison found of its pair's circuits as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rlcircuits.answers.recorded import SIDES
from rlcircuits.comparison.circuit_checks import Agreement, CircuitChecks


def circuit_lines(found: CircuitChecks) -> list[str]:
    """Return a line for the circuits' overlap, one for their faithfulness, and one for each side's scores."""
    if not found.n_edges:
        return ["circuits: not measured"]
    noise = f"{min(found.noise):.2f} to {max(found.noise):.2f}" if found.noise else "not measured"
    lines = [
        f"circuits of the {found.n_edges} edges with the highest |score|, a share of {found.size:g}: before's and "
        f"after's have a Jaccard index of {found.overlap:.2f} {_interval(found.overlap_interval)}, before's and noise "
        f"draws' {noise}"
    ]
    if not math.isnan(found.faithfulness):
        lines.append(
            f"  in after, on {found.judged} questions that they were not found on, {found.ablation} ablation: "
            f"f_after(C_before) {found.faithfulness:.2f} {_interval(found.faithfulness_interval)}, f_after(C_after) "
            f"{found.own_faithfulness:.2f}"
        )
    return lines + [f"  {estimate_line(side, found.estimates[side])}" for side in SIDES if side in found.estimates]


def estimate_line(side: str, estimates: Iterable[Agreement]) -> str:
    """Return how one side's scores agree with exact effects, in words.

    Args:
        side: ``before`` or ``after``.
        estimates: the agreement over its best edges, then over random others.
    """
    parts = [
        f"{which} {each.n_edges} edges: rank correlation {format_number(each.rank_correlation)}, same sign "
        f"{each.sign_agreement:.0%}"
        for which, each in zip(("top", "random"), estimates, strict=False)
        if each.n_edges
    ]
    return f"{side}: scores against exact effects of removing one edge: {'; '.join(parts)}"


def format_number(value: float) -> str:
    """Return a number with two digits, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def _interval(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]"
