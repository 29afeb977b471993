"""Measure an effect beyond what supervised training of the same base does.

A base that is still learning moves in online RL's directions when it simply goes on learning. The supervised control
is a checkpoint that was trained from the same base without reinforcement learning. An effect beyond it is the
difference of differences

    (after − before) − (supervised − before)

over the questions that both comparisons have, with its 95 % bootstrap interval. Each comparison brings its own values
of before: how much of an answer is scored depends on both checkpoints' answers. Where the two have the same values of
before, this is after − supervised. :mod:`rlcircuits.comparison.metric_outcome` says what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.comparison.comparison import BeyondSupervised, Comparison, SupervisedControl
from rlcircuits.comparison.paired_statistics import mean_intervals
from rlcircuits.comparison.profiles import GATE_METRICS, ONLINE_RL_PROFILE
from rlcircuits.graph.metrics import Float64Array

_SAME = ("before", "questions", "split", "granularity", "score_on", "alpha", "sampling", "prompting", "scoring")
"""Fields in which the two comparisons must agree."""


@validate_arguments
def beyond_supervised(
    comparison: Comparison, supervised: Comparison, metrics: Sequence[str] = GATE_METRICS, *, min_questions: int = 1
) -> SupervisedControl:
    """Return the effects beyond those of supervised training from the same base.

    Args:
        comparison: the pair that is judged, before → after.
        supervised: before → a checkpoint that was trained from before without reinforcement learning.
        metrics: those to compare.
        min_questions: fewest questions that both comparisons must have.

    Raises:
        RLCircuitsError: the comparisons differ in the base, the questions or how they were measured; they share too few
            questions; the control was itself judged as online RL; or a metric is missing.
    """
    _check_comparable(comparison, supervised, min_questions)
    differences = {metric: _differences(comparison, supervised, metric) for metric in metrics}
    intervals = mean_intervals(differences)
    return SupervisedControl(
        checkpoint=supervised.after,
        accuracy=supervised.accuracy.after,
        beyond={
            metric: BeyondSupervised(
                difference=float(values.mean()) if values.size else float("nan"),
                interval=intervals[metric],
                questions=int(values.size),
            )
            for metric, values in differences.items()
        },
    )


def _check_comparable(comparison: Comparison, supervised: Comparison, min_questions: int) -> None:
    for field in _SAME:
        ours, theirs = getattr(comparison, field), getattr(supervised, field)
        if ours != theirs:
            raise RLCircuitsError(
                f"beyond_supervised: {field} is {truncated_repr(ours)} in pair {truncated_repr(comparison.name)} and "
                f"{truncated_repr(theirs)} in its supervised control {truncated_repr(supervised.name)}; measure both "
                f"from one base with the same settings"
            )
    if supervised.profile == ONLINE_RL_PROFILE:
        raise RLCircuitsError(
            f"beyond_supervised: the control {truncated_repr(supervised.name)} has algorithm "
            f"{truncated_repr(supervised.algorithm)}, which is online RL; give a checkpoint trained without it"
        )
    shared = len(set(comparison.question_ids) & set(supervised.question_ids))
    if shared < min_questions:
        raise RLCircuitsError(
            f"beyond_supervised: pair {truncated_repr(comparison.name)} and its supervised control "
            f"{truncated_repr(supervised.name)} share {shared} of the questions compared, and at least {min_questions} "
            f"are wanted; ask more questions (question_count) or compare more of them (k)"
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
