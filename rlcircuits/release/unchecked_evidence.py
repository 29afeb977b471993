"""Whether a verdict depends on numbers that could not be recomputed.

Such a number may be anything. So the verdict is judged again with the extremes in its place: noise that moves every
metric far in online RL's directions, far against them, or could not be measured; noise on one group of tensors that
explains everything, or nothing; a supervised control that does more than the pair, or less; a claim or a minimum of
the circuits that is reached, or missed. Each finding's outcome is monotone in these numbers, so that the extremes show
all outcomes that it can have. Findings are combined as if they were independent: a verdict may be said to depend on a
number that it does not depend on, and never the other way round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product

from rlcircuits.comparison.circuit_checks import CircuitChecks
from rlcircuits.comparison.comparison import BeyondSupervised, Comparison
from rlcircuits.comparison.noise_extremes import SIGNS, extreme_groups, extreme_shifts, far
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.comparison.verdict import judge


def possible_outcomes(comparison: Comparison, unchecked: Collection[str]) -> set[Outcome]:
    """Return every outcome that the verdict may have, whatever the unchecked numbers are.

    Args:
        comparison: what was recomputed.
        unchecked: fields of it that were not, such as ``comparison.controls.0``.
    """
    by_measure: dict[str, set[Outcome]] = {}
    for variant in _variants(comparison, unchecked):
        for measure, finding in judge(variant).all_findings.items():
            if finding.outcome is not None:
                by_measure.setdefault(measure, set()).add(finding.outcome)
    return {_combined(outcomes) for outcomes in product(*by_measure.values())}


def _combined(outcomes: Collection[Outcome]) -> Outcome:
    """Return the outcome of a verdict with findings of these outcomes."""
    if "does not hold" in outcomes:
        return "does not hold"
    return "inconclusive" if "inconclusive" in outcomes else "holds"


def _variants(comparison: Comparison, unchecked: Collection[str]) -> Iterator[Comparison]:
    """Yield the comparison as it is, and with every combination of extremes in place of the unchecked numbers."""
    draws, groups, claims = (
        [place for place in range(len(getattr(comparison, name))) if f"comparison.{name}.{place}" in unchecked]
        for name in ("controls", "group_controls", "claims")
    )
    beyond = "comparison.supervised" in unchecked
    yield comparison
    for noise, explained, supervised in product(
        SIGNS if draws else (None,), SIGNS if groups else (None,), SIGNS if beyond else (None,)
    ):
        changed = comparison
        if noise is not None:
            changed = _with_noise(changed, draws, noise)
        if explained is not None:
            changed = _with_group(changed, explained)
        if supervised is not None:
            changed = _with_supervised(changed, supervised)
        yield changed
    if claims:
        # No finding depends both on a claim and on a control.
        yield from (_with_claims(comparison, claims, sign) for sign in SIGNS)
    if comparison.circuits is not None and "comparison.circuits" in unchecked:
        # Nor does any on the circuits and on something else.
        yield from (_with_circuits(comparison, comparison.circuits, sign) for sign in SIGNS)


def _with_noise(comparison: Comparison, places: Collection[int], sign: int) -> Comparison:
    """Return it with draws that move the metrics far in one direction, or that could not be measured (0)."""
    draws = list(comparison.controls)
    for place in places:
        draws[place] = replace(draws[place], shifts=dict(extreme_shifts(sign)))
    return replace(comparison, controls=tuple(draws))


def _with_group(comparison: Comparison, sign: int) -> Comparison:
    """Return it with one group alone that moves the metrics far, or without any (0)."""
    return replace(comparison, group_controls=extreme_groups(comparison.group_controls[0].group, sign))


def _with_supervised(comparison: Comparison, sign: int) -> Comparison:
    """Return it with effects far beyond the control's in one direction, or that could not be measured (0)."""
    assert comparison.supervised is not None
    nan = float("nan")
    beyond = {}
    for metric in GATE_METRICS:
        end = far(metric, sign) if sign else nan
        beyond[metric] = BeyondSupervised(end, (end, end), comparison.k if sign else 0)
    return replace(comparison, supervised=replace(comparison.supervised, beyond=beyond))


def _with_claims(comparison: Comparison, places: Collection[int], sign: int) -> Comparison:
    """Return it with claims that after exceeds, misses, or is not clearly above or below (0)."""
    claims = list(comparison.claims)
    for place in places:
        claims[place] = replace(claims[place], interval=(float(sign), float(sign)) if sign else (-1.0, 1.0))
    return replace(comparison, claims=tuple(claims))


def _with_circuits(comparison: Comparison, circuits: CircuitChecks, sign: int) -> Comparison:
    """Return it with circuits that reach their minimums, miss them, or could not be measured (0)."""
    nan = float("nan")
    share = {1: 1.0, -1: 0.0, 0: nan}[sign]
    ends = (share, share)
    changed = replace(circuits, noise=(1.0,), overlap=share, overlap_interval=ends)
    return replace(comparison, circuits=replace(changed, faithfulness=share, faithfulness_interval=ends))
