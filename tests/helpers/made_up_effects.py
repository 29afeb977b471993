"""Effects from a mean and an interval, for tests of the rules that judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st
from scipy import stats

from rlcircuits.comparison.comparison import BeyondSupervised, ControlDraw, GroupControl
from rlcircuits.comparison.effects import ControlEffect, Effect

Z = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""


def effect_of(
    mean: float,
    error: float,
    *,
    before: float = 1.0,
    questions: int = 100,
    p_up: float | None = None,
    metric: str = "intensity",
) -> Effect:
    """Return an effect with the interval mean ± 1.96 errors, and a normal mean's p-values unless `p_up` is given."""
    if p_up is None:
        p_up = float(stats.norm.sf(mean / error)) if error else 0.5 if mean == 0 else float(mean < 0)
    return Effect(
        metric=metric,
        before=before,
        after=before + mean,
        change=mean / abs(before) if before else float("nan"),
        win_share=0.5,
        interval=(mean - Z * error, mean + Z * error),
        p_up=p_up,
        p_down=1 - p_up,
        p_two_sided=2 * min(p_up, 1 - p_up),
        questions=questions,
        before_values=(),
        after_values=(),
    )


def mirrored(effect: Effect) -> Effect:
    """Return the effect of the same size in the other direction, with the same mean before."""
    low, high = effect.interval
    return replace(
        effect,
        after=2 * effect.before - effect.after,
        change=-effect.change,
        interval=(-high, -low),
        p_up=effect.p_down,
        p_down=effect.p_up,
    )


def shift_of(difference: float) -> ControlEffect:
    """Return a noise control's effect with this mean difference; NaN where the metric was not defined."""
    return ControlEffect(difference, difference, 0.5, (difference - 1, difference + 1), 0.5, 0.5)


def beyond_of(mean: float, error: float, questions: int = 80) -> BeyondSupervised:
    """Return an effect beyond the supervised control's, with the interval mean ± 1.96 errors."""
    return BeyondSupervised(mean, (mean - Z * error, mean + Z * error), questions)


def draws_of(differences: Sequence[float | None], metric: str = "intensity") -> list[ControlDraw]:
    """Return noise draws with these mean differences; None for a draw that could not be measured."""
    return [
        ControlDraw(place, 0.9, 40 if each is not None else 3, {} if each is None else {metric: shift_of(each)})
        for place, each in enumerate(differences)
    ]


def groups_of(differences: dict[str, float | None], metric: str = "intensity") -> list[GroupControl]:
    """Return the noise on each group alone, with this mean difference; None where it could not be measured."""
    return [
        GroupControl(group, {} if each is None else {metric: shift_of(each)}) for group, each in differences.items()
    ]


# Sixteenths, so that effects, minima and draws often coincide and sums are exact.
steps = st.integers(-64, 64).map(lambda sixteenths: sixteenths / 16)
noise_draws = st.lists(st.none() | st.just(float("nan")) | steps, max_size=4)
probabilities = st.sampled_from([1e-9, 0.001, 0.009, 0.01, 0.011, 0.3, 0.5, 0.7, 0.99, 0.999, 1.0])


@st.composite
def effects(draw: st.DrawFn) -> Effect:
    """Draw effects whose mean, interval and p need not fit each other."""
    low, width, mean, p_up = draw(steps), abs(draw(steps)), draw(steps), draw(probabilities)
    effect = effect_of(mean, 1.0, before=draw(steps), p_up=p_up)
    return replace(effect, interval=(low, low + width))
