"""Ask whether an effect goes beyond what supervised training of the same base does.

A base that is still learning moves in online RL's directions when it simply goes on learning. The supervised control
is a checkpoint that was trained from the same base without reinforcement learning. An effect is **beyond supervised
training** in a direction if, over the questions that both comparisons have, the difference of differences

    (after − before) − (supervised − before)

is significant in that direction (Wilcoxon's signed-rank test, one-sided) and the end nearer to zero of its 95 %
interval lies on that side of zero. Each comparison brings its own values of before: how much of an answer is scored
depends on both checkpoints' answers. Where the two have the same values of before, this is after − supervised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.effects import Number
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.paired_statistics import mean_intervals, signed_rank
from rlcircuits.comparison.profiles import ONLINE_RL, Direction
from rlcircuits.comparison.significance import SIGNIFICANCE_LEVEL, p_in_words
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison

_SAME = ("before", "questions", "split", "granularity", "score_on", "alpha", "sampling", "prompting")
"""Fields in which the two comparisons must agree."""


@dataclass(frozen=True)
class BeyondSupervised:
    """One metric's effect beyond that of supervised training, over the questions that both comparisons have."""

    metric: str
    direction: Direction
    """The asserted one."""
    difference: Number
    """Mean difference of differences, in the metric's unit; NaN without a question."""
    interval: tuple[Number, Number]
    """95 % bootstrap interval of the difference."""
    p: float
    """One-sided p of Wilcoxon's signed-rank test in the asserted direction."""
    p_against: float
    """One-sided p of the same test in the other direction."""
    questions: int
    """Questions where the metric is defined in all four."""
    level: float
    """Significance level of `p` and `p_against`."""

    def __repr__(self) -> str:
        return short_repr(self, self.words)

    @property
    def outcome(self) -> Outcome:
        """Return ``holds`` if the effect is beyond supervised training, ``does not hold`` if it is clearly less."""
        low, high = self.interval
        above, below = (low > 0, high < 0) if self.direction == "up" else (high < 0, low > 0)
        if self.p < self.level and above:
            return "holds"
        return "does not hold" if self.p_against < self.level and below else "inconclusive"

    @property
    def words(self) -> str:
        """Return the finding in words: ``intensity: +0.0031 beyond supervised training [+0.002, +0.004], p = 3e-5``."""
        low, high = self.interval
        numbers = f"[{low:+.2g}, {high:+.2g}], p = {p_in_words(self.p)}"
        if self.outcome == "holds":
            return f"{self.metric}: {self.difference:+.2g} beyond supervised training {numbers}"
        clearly = "" if self.outcome == "does not hold" else "clearly "
        return f"{self.metric}: not {clearly}beyond supervised training, {self.difference:+.2g} {numbers}"


@validate_arguments
def beyond_supervised(
    comparison: Comparison,
    supervised: Comparison,
    directions: Mapping[str, Direction] = ONLINE_RL,
    *,
    level: float = SIGNIFICANCE_LEVEL,
) -> dict[str, BeyondSupervised]:
    """Return, by metric, whether an effect goes beyond that of supervised training from the same base.

    Args:
        comparison: the pair that is judged, before → after.
        supervised: before → a checkpoint that was trained from before without reinforcement learning.
        directions: asserted direction of each metric to test.
        level: significance level, between 0 and 1.

    Raises:
        RLCircuitsError: the comparisons differ in the base, the questions or how they were measured; they share no
            question; the control was itself judged as online RL; or a metric is missing.
    """
    _check_comparable(comparison, supervised)
    if not 0 < level < 1:
        raise RLCircuitsError(f"beyond_supervised: level is {level}; a number between 0 and 1 is wanted")
    differences = {metric: _differences(comparison, supervised, metric) for metric in directions}
    intervals = mean_intervals(differences)
    found = {}
    for metric, towards in directions.items():
        values = differences[metric]
        p_up, p_down = signed_rank(values, "greater"), signed_rank(values, "less")
        found[metric] = BeyondSupervised(
            metric=metric,
            direction=towards,
            difference=float(values.mean()) if values.size else float("nan"),
            interval=intervals[metric],
            p=p_up if towards == "up" else p_down,
            p_against=p_down if towards == "up" else p_up,
            questions=int(values.size),
            level=level,
        )
    return found


def _check_comparable(comparison: Comparison, supervised: Comparison) -> None:
    for field in _SAME:
        ours, theirs = getattr(comparison, field), getattr(supervised, field)
        if ours != theirs:
            raise RLCircuitsError(
                f"beyond_supervised: {field} is {truncated_repr(ours)} in pair {truncated_repr(comparison.name)} and "
                f"{truncated_repr(theirs)} in its supervised control {truncated_repr(supervised.name)}; measure both "
                f"from one base with the same settings"
            )
    if supervised.profile == "online-rl":
        raise RLCircuitsError(
            f"beyond_supervised: the control {truncated_repr(supervised.name)} has algorithm "
            f"{truncated_repr(supervised.algorithm)}, which is online RL; give a checkpoint trained without it"
        )
    if not set(comparison.question_ids) & set(supervised.question_ids):
        raise RLCircuitsError(
            f"beyond_supervised: pair {truncated_repr(comparison.name)} and its supervised control "
            f"{truncated_repr(supervised.name)} share no question; compare more questions in both (k)"
        )


def _differences(comparison: Comparison, supervised: Comparison, metric: str) -> Float64Array:
    """Return the difference of differences on each question where both are defined, float64 [questions]."""
    changes, control = _changes(comparison, metric), _changes(supervised, metric)
    shared = [changes[question] - control[question] for question in comparison.question_ids if question in control]
    values = np.array(shared, dtype=np.float64)
    return values[~np.isnan(values)]


def _changes(comparison: Comparison, metric: str) -> dict[str, float]:
    """Return after − before by question."""
    if metric not in comparison.effects:
        raise RLCircuitsError(
            f"beyond_supervised: metric {truncated_repr(metric)} is not in pair {truncated_repr(comparison.name)}, "
            f"which has {', '.join(comparison.effects)}"
        )
    effect = comparison.effects[metric]
    rows = zip(comparison.question_ids, effect.before_values, effect.after_values, strict=True)
    return {question: after - before for question, before, after in rows}
