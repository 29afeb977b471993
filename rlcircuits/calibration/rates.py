"""Rates with their intervals: how often runs hold, contradict each other, or raise a false alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from rlcircuits.comparison.outcome import Outcome

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """How often something happened."""

    count: float
    total: int
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        """Return the share, from 0 to 1."""
        return self.count / self.total if self.total else float("nan")

    @property
    def words(self) -> str:
        """Return count, total and the interval: ``0/600 [0, 0.6 %]``."""
        low, high = self.interval
        return f"{self.count:g}/{self.total} [{_percent(low)}, {_percent(high)} %]"


def event_rate(count: int, total: int) -> Rate:
    """Return how often an event happened, with the Clopper-Pearson interval (95 %)."""
    if not total:
        return Rate(0, 0, (0.0, 1.0))
    found = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="exact")
    return Rate(count, total, (float(found.low), float(found.high)))


@dataclass(frozen=True)
class Agreement:
    """How often two runs of one pair agree."""

    runs: int
    pairs: int
    """Pairs of checkpoints."""
    contradict: float
    """Share of two runs of a pair of which one holds and the other does not hold."""
    differ: float
    """Share of two runs of a pair with other outcomes of any kind."""
    differ_interval: tuple[float, float]
    """95 % bootstrap interval of `differ`, over the pairs of checkpoints."""


def agreement(outcomes: Mapping[str, Sequence[Outcome]]) -> Agreement:
    """Return how often two runs of one pair agree.

    Args:
        outcomes: by pair, the outcome of each of its runs.
    """
    repeated = [each for each in outcomes.values() if len(each) > 1]
    contradict, differ = [], []
    for each in repeated:
        twos = list(combinations(each, 2))
        contradict.append(float(np.mean([set(two) == {"holds", "does not hold"} for two in twos])))
        differ.append(float(np.mean([two[0] != two[1] for two in twos])))
    interval = (float("nan"), float("nan"))
    if len(differ) > 1 and len(set(differ)) > 1:
        found = stats.bootstrap(
            (np.array(differ),), np.mean, confidence_level=CONFIDENCE, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        interval = float(found.low), float(found.high)
    return Agreement(
        runs=sum(map(len, repeated)),
        pairs=len(repeated),
        contradict=float(np.mean(contradict)) if contradict else float("nan"),
        differ=float(np.mean(differ)) if differ else float("nan"),
        differ_interval=interval,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".rstrip("0").rstrip(".")
