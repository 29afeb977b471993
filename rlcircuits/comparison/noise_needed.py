"""Whether noise that has not been measured could still change the verdict.

It could not if everything that is decided is the same whatever the noise turns out to be:

- the outcome of every measure, and so the verdict and the exit code;
- the p-value of the evidence against the pair, with which a release of several pairs is judged;
- whether the pair shows online RL's pattern;
- how many questions would settle an inconclusive measure.

This is an implication, not an estimate of how likely a change is: the comparison is judged with every extreme of the
noise in its place (:mod:`rlcircuits.comparison.noise_extremes`). What noise adds to a report beside the verdict is not
looked at: the column *control*, and whether a metric of which nothing is asserted lies beyond noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from rlcircuits.comparison.comparison import Comparison, ControlDraw
from rlcircuits.comparison.evidence import evidence_against
from rlcircuits.comparison.metric_outcome import judge_comparison_metric
from rlcircuits.comparison.multiplicity import combine_evidence
from rlcircuits.comparison.noise_extremes import SIGNS, extreme_groups, extreme_shifts
from rlcircuits.comparison.profiles import NOT_ONLINE_RL, pattern_rules
from rlcircuits.comparison.verdict import judge, reads_as_online_rl
from rlcircuits.models.tensor_groups import GROUPS

__all__ = ["noise_can_decide"]


def noise_can_decide(comparison: Comparison, *, draws: bool, groups: bool) -> bool:
    """Return whether noise that has not been measured could change what is decided of a pair.

    Args:
        comparison: the pair, with the draws and groups that were measured. Its supervised control may be missing: where
            noise decides nothing without one, it decides nothing with one.
        draws: whether draws of the noise control are missing.
        groups: whether the noise on single groups of tensors is missing.
    """
    if not comparison.is_measured:
        return False
    decided: dict[str, set[object]] = {}
    evidence: dict[str, list[float]] = {}
    for variant in _variants(comparison, draws, groups):
        decided.setdefault("pattern", set()).add(reads_as_online_rl(variant))
        findings = judge(variant).all_findings
        for measure, finding in findings.items():
            if finding.outcome is not None:
                decided.setdefault(measure, set()).add((finding.outcome, finding.settled_by))
        if NOT_ONLINE_RL in findings and findings[NOT_ONLINE_RL].outcome == "inconclusive":
            # What would settle it is known where it is for each metric, and noise may move one metric alone.
            for metric, rule in pattern_rules().items():
                found = judge_comparison_metric(variant, metric, rule)
                decided.setdefault(f"{metric} in the pattern", set()).add((found.outcome, found.settled_by))
        for measure, p in evidence_against(variant).items():
            evidence.setdefault(measure, []).append(p)
    # The evidence of one measure may be least at another extreme than that of the next.
    least, most = (combine_evidence({measure: end(found) for measure, found in evidence.items()}) for end in (min, max))
    return least != most or any(len(found) > 1 for found in decided.values())


def _variants(comparison: Comparison, draws: bool, groups: bool) -> Iterator[Comparison]:
    """Yield the comparison with every combination of extremes in place of what is missing."""
    number = 1 + max((draw.draw for draw in comparison.controls), default=-1)
    for of_draws, of_groups in product(SIGNS if draws else (None,), SIGNS if groups else (None,)):
        variant = comparison
        if of_draws is not None:
            missing = ControlDraw(number, None, 0, dict(extreme_shifts(of_draws)))
            variant = replace(variant, controls=(*comparison.controls, missing))
        if of_groups is not None:
            variant = replace(variant, group_controls=extreme_groups(GROUPS[0], of_groups))
        yield variant
