"""Noise of unknown size in a comparison: every outcome that it can lead to shows at its extremes.

A noise draw that moves a metric far in the asserted direction rules the effect out (*within noise*), one that moves it
far the other way leaves the decision to the other numbers, and one that could not be measured lets no effect exceed it
and none lie below it. Each outcome is monotone in the draw, so that no other draw leads anywhere else. Noise on one
group of tensors either explains the whole effect, or nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlcircuits.comparison.comparison import CONTROL_METRICS, GroupControl
from rlcircuits.comparison.effects import ControlEffect
from rlcircuits.comparison.profiles import ONLINE_RL

__all__ = ["SIGNS", "extreme_groups", "extreme_shifts", "far"]

SIGNS = (1, -1, 0)
"""The extremes: far in online RL's directions, far against them, and not measured."""

_FAR = 1e12
"""More than any metric moves."""


def far(metric: str, sign: int) -> float:
    """Return a change larger than any, for sign 1 in online RL's direction."""
    return sign * (-_FAR if ONLINE_RL.get(metric) == "down" else _FAR)


def extreme_shifts(sign: int) -> Mapping[str, ControlEffect]:
    """Return the effects of noise that moves every metric far, by metric; none for sign 0."""
    if not sign:
        return {}
    ends = {metric: far(metric, sign) for metric in CONTROL_METRICS}
    return {metric: ControlEffect(end, end, 0.5, (end, end), 0.5, 0.5) for metric, end in ends.items()}


def extreme_groups(group: str, sign: int) -> tuple[GroupControl, ...]:
    """Return noise on one group of tensors alone that moves every metric far; none for sign 0."""
    return (GroupControl(group, dict(extreme_shifts(sign))),) if sign else ()
