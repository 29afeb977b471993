"""Compare the effects of two comparisons of one base: the difference of their differences, question by question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import Effect, paired_effects
from rlcircuits.graph.metrics import Float64Array

__all__ = ["effect_differences", "shared_questions"]


def shared_questions(first: Comparison, second: Comparison) -> tuple[str, ...]:
    """Return the questions that both compared, in the order of the first."""
    theirs = set(second.question_ids)
    return tuple(question for question in first.question_ids if question in theirs)


def effect_differences(first: Comparison, second: Comparison, metrics: Sequence[str]) -> dict[str, Effect]:
    """Return by metric how the second comparison's effect differs from the first's, over the questions of both.

    Where both have one base, this is how the two checkpoints after differ; what the base's own values differ by, since
    its answers are matched with those of another model, cancels.

    Returns:
        Effects whose ``before_values`` are (after − before) of the first, and ``after_values`` those of the second, in
        the metric's unit. A metric that one of the two lacks is left out.
    """
    shared = shared_questions(first, second)
    known = [metric for metric in metrics if metric in first.effects and metric in second.effects]
    ours, theirs = ({metric: _changes(each, metric, shared) for metric in known} for each in (first, second))
    return paired_effects(ours, theirs)


def _changes(comparison: Comparison, metric: str, questions: Sequence[str]) -> Float64Array:
    """Return after − before of each of these questions, float64 [questions]; NaN where it is undefined."""
    effect = comparison.effects[metric]
    places = {question: place for place, question in enumerate(comparison.question_ids)}
    rows = [places[question] for question in questions]
    both = (np.array(values, dtype=np.float64)[rows] for values in (effect.before_values, effect.after_values))
    before, after = both
    return after - before
