"""Say of two checkpoints, without running them, whether they can be compared and what differs beside their weights."""

from __future__ import annotations

from dataclasses import dataclass

from rlcircuits.checkpoints.comparability import comparability_warnings
from rlcircuits.checkpoints.source import CheckpointSource, check_same_architecture, check_same_vocabulary
from rlcircuits.common.errors import RLCircuitsError

__all__ = ["PairDifferences", "pair_differences"]


@dataclass(frozen=True)
class PairDifferences:
    """What is told of two checkpoints without running them."""

    problems: tuple[str, ...]
    """Why they cannot be compared, one sentence each; empty if they can."""
    warnings: tuple[str, ...]
    """What differs beside the weights' values, one sentence each."""


def pair_differences(before: CheckpointSource, after: CheckpointSource) -> PairDifferences:
    """Return why two checkpoints cannot be compared, and what else differs beside the weights' values."""
    problems: list[str] = []
    for check in (check_same_architecture, check_same_vocabulary):
        try:
            check(before, after)
        except RLCircuitsError as error:
            problems.append(str(error))
    try:
        warnings = comparability_warnings(before, after)
    except RLCircuitsError as error:
        warnings = (f"the rest was not compared: {error}",)
    return PairDifferences(tuple(dict.fromkeys(problems)), warnings)
