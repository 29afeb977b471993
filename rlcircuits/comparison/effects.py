"""One measure before and after, question by question: its paired difference, tested and sized.

The unit is the question, however often it was answered: answers to one question are not independent, so its value
is the mean over them. An effect is judged on the paired differences, after minus before, by Wilcoxon's signed-rank
test (it stays calibrated at a few dozen questions, where normal-theory error bars do not), and sized by a bootstrap
interval of the mean difference. Accuracy is compared over all the questions asked, by the exact sign test, which is
McNemar's where each was answered once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, PlainSerializer
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.significance import p_in_words
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers

Alternative = Literal["two-sided", "greater", "less"]

CONFIDENCE = 0.95
"""Of the bootstrap interval."""

RESAMPLES = 9999
"""Of the bootstrap."""

BOOTSTRAP_SEED = 42
"""The interval is the same from run to run."""

EXACT_UP_TO = 500
"""Differences that are not zero, up to which the signed-rank test is exact."""

_RESAMPLES_AT_A_TIME = 200  # of all metrics together: more fall out of the processor's cache

Number = Annotated[
    float,
    BeforeValidator(lambda value: float("nan") if value is None else value),
    PlainSerializer(lambda value: None if np.isnan(value) else value, when_used="json"),
]
"""A float whose NaN is null in JSON, which knows no NaN."""


@dataclass(frozen=True)
class Effect:
    """One metric before and after, over the questions where both are defined (not NaN)."""

    metric: str
    before: Number
    """Mean over the questions."""
    after: Number
    change: Number
    """(after - before) / abs(before), of the means."""
    win_share: Number
    """Share of questions on which the metric rose; ties count half."""
    interval: tuple[Number, Number]
    """95 % bootstrap interval of the mean difference, in the metric's own unit."""
    p_up: float
    """One-sided p of Wilcoxon's signed-rank test: the metric rose."""
    p_down: float
    """The same: the metric fell."""
    p_two_sided: float
    questions: int
    """Questions where the metric is defined in both."""
    before_values: tuple[Number, ...]
    """One a question, in the order of the comparison's questions."""
    after_values: tuple[Number, ...]

    def __repr__(self) -> str:
        means = f"{self.before:.4g} → {self.after:.4g} ({self.change:+.1%})"
        p = f"p = {p_in_words(self.p_up)} up, {p_in_words(self.p_down)} down"
        return short_repr(
            self, self.metric, means, f"rose on {self.win_share:.0%}", p, format_count(self.questions, "question")
        )


@dataclass(frozen=True)
class ControlEffect:
    """What a control did to one metric, over the questions where it is defined before and with the control."""

    difference: Number
    """Mean of control - before, in the metric's own unit."""
    change: Number
    """The difference over abs(mean before)."""
    win_share: Number
    """Share of questions on which the metric rose; ties count half."""
    interval: tuple[Number, Number]
    """95 % bootstrap interval of the difference."""
    p_up: float
    """One-sided p of Wilcoxon's signed-rank test: the metric rose."""
    p_down: float


@dataclass(frozen=True)
class AccuracyEffect:
    """Accuracy before and after, on all the questions that both models were asked."""

    before: float
    after: float
    asked: int
    """Questions."""
    lost: int
    """Questions whose share of right answers fell: with one answer each, right before and wrong after."""
    gained: int
    """Questions whose share of right answers rose."""
    p_fall: float
    """One-sided p of the exact sign test on them (with one answer each McNemar's): accuracy fell."""


def paired_effects(before: Mapping[str, Float64Array], after: Mapping[str, Float64Array]) -> dict[str, Effect]:
    """Every metric's effect from its value on each question: float64 [K] before and after, NaN where undefined.

    Questions where either is NaN are left out; ``questions`` counts the others. No question left, or no
    difference anywhere, has p = 1.
    """
    differences = {metric: _defined(before[metric], after[metric]) for metric in before}
    intervals = mean_intervals({metric: y - x for metric, (x, y) in differences.items()})
    effects = {}
    for metric, (x, y) in differences.items():
        mean_x, mean_y = _mean(x), _mean(y)
        effects[metric] = Effect(
            metric=metric,
            before=mean_x,
            after=mean_y,
            change=(mean_y - mean_x) / abs(mean_x) if mean_x else float("nan"),
            win_share=_win_share(y - x),
            interval=intervals[metric],
            p_up=signed_rank(y - x, "greater"),
            p_down=signed_rank(y - x, "less"),
            p_two_sided=signed_rank(y - x, "two-sided"),
            questions=int(x.size),
            before_values=tuple(before[metric].tolist()),
            after_values=tuple(after[metric].tolist()),
        )
    return effects


def paired_effect(metric: str, before: Float64Array, after: Float64Array) -> Effect:
    """One metric's effect, as :func:`paired_effects` gives it."""
    return paired_effects({metric: before}, {metric: after})[metric]


def shifts(before: Mapping[str, Float64Array], control: Mapping[str, Float64Array]) -> dict[str, ControlEffect]:
    """What a control did to every metric, from its value on each question: float64 [K] each, NaN where undefined."""
    values = {metric: _defined(before[metric], control[metric]) for metric in control}
    intervals = mean_intervals({metric: y - x for metric, (x, y) in values.items()})
    found = {}
    for metric, (x, y) in values.items():
        difference, base = _mean(y - x), _mean(x)
        found[metric] = ControlEffect(
            difference=difference,
            change=difference / abs(base) if base else float("nan"),
            win_share=_win_share(y - x),
            interval=intervals[metric],
            p_up=signed_rank(y - x, "greater"),
            p_down=signed_rank(y - x, "less"),
        )
    return found


def signed_rank(difference: Float64Array, alternative: Alternative) -> float:
    """Give p of Wilcoxon's signed-rank test on differences [K], zeros ranked (Pratt); 1 where all are zero.

    It is exact, ties and zeros included, where at most :data:`EXACT_UP_TO` differences are not zero: given the sizes,
    every choice of signs is equally likely where nothing changed. (scipy's exact test knows neither zeros nor ties, and
    its normal approximation is far off where most differences are zero.) Above that number it is scipy's approximation.
    """
    changed = difference != 0
    if not changed.any():
        return 1.0
    if np.count_nonzero(changed) > EXACT_UP_TO:
        return float(stats.wilcoxon(difference, zero_method="pratt", alternative=alternative).pvalue)
    # Twice the ranks, since ties have halves; the unit then is what all of them are multiples of.
    doubled = np.rint(2 * stats.rankdata(np.abs(difference))[changed]).astype(np.int64)
    ranks = doubled // np.gcd.reduce(doubled)
    rose = int(ranks[difference[changed] > 0].sum())
    chances = _chances_of_sums(tuple(sorted(ranks.tolist())))
    less, greater = (min(1.0, float(side.sum())) for side in (chances[: rose + 1], chances[rose:]))
    return {"less": less, "greater": greater, "two-sided": min(1.0, 2 * min(less, greater))}[alternative]


@lru_cache(maxsize=16)
def _chances_of_sums(ranks: tuple[int, ...]) -> Float64Array:
    """Chance of each sum from 0 to that of all ranks, where each is taken or left with chance 1/2."""
    chances = np.zeros(sum(ranks) + 1)
    chances[0] = 1.0
    reached = 0
    for rank in ranks:
        without = 0.5 * chances[: reached + 1]
        chances[: reached + 1] = without
        chances[rank : reached + rank + 1] += without
        reached += rank
    return chances


def compare_accuracy(before: Answers, after: Answers) -> AccuracyEffect:
    """Accuracy on every question both were asked, and the exact one-sided sign test for a fall.

    With one answer to each question that is McNemar's test. With several, a question counts once, for the direction
    in which its share of right answers went: by how much does not matter.
    """
    left, right = _shares_right(before), _shares_right(after)
    asked = [question for question in left if question in right]
    if not asked:
        raise RLCircuitsError("before and after answered no question in common; accuracy needs the same questions")
    lost = sum(right[q] < left[q] for q in asked)
    gained = sum(right[q] > left[q] for q in asked)
    fall = stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue if lost + gained else 1.0
    return AccuracyEffect(
        before=sum(left[q] for q in asked) / len(asked),
        after=sum(right[q] for q in asked) / len(asked),
        asked=len(asked),
        lost=lost,
        gained=gained,
        p_fall=float(fall),
    )


def _shares_right(answers: Answers) -> dict[str, float]:
    """The share of right answers to each question."""
    grades: dict[str, list[bool]] = {}
    for item in answers.items:
        grades.setdefault(item.question_id, []).append(item.correct)
    return {question: sum(each) / len(each) for question, each in grades.items()}


def mean_intervals(differences: Mapping[str, Float64Array]) -> dict[str, tuple[float, float]]:
    """Bootstrap interval (BCa) of each one's mean; a point where all its numbers are the same, NaN where it has none.

    What is resampled are the numbers' places between the smallest and the largest, which is the same but for rounding:
    the squares and cubes of the method neither vanish where numbers differ in the last digit, nor overflow. Those of
    one length are resampled together, with the same questions drawn: most of a bootstrap's time goes into drawing, and
    a metric's interval does not depend on what else is asked for.
    """
    found: dict[str, tuple[float, float]] = {}
    by_length: dict[int, list[str]] = {}
    for metric, values in differences.items():
        if not values.size:
            found[metric] = (float("nan"), float("nan"))
        elif values.min() == values.max():
            found[metric] = (float(values[0]), float(values[0]))
        else:
            by_length.setdefault(values.size, []).append(metric)
    for together in by_length.values():
        values = np.stack([differences[metric] for metric in together])
        _, exponent = np.frexp(np.abs(values).max(axis=-1))
        scaled = np.ldexp(values, -exponent[:, None])  # at most 1, exactly
        lowest, spread = scaled.min(axis=-1), np.ptp(scaled, axis=-1)
        result: Any = stats.bootstrap(
            ((scaled - lowest[:, None]) / spread[:, None],),
            np.mean,
            axis=-1,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            batch=_RESAMPLES_AT_A_TIME,
            method="BCa",
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        )
        low, high = (np.ldexp(lowest + spread * end, exponent) for end in result.confidence_interval)
        found |= {metric: (float(low[i]), float(high[i])) for i, metric in enumerate(together)}
    return found


def _defined(before: Float64Array, after: Float64Array) -> tuple[Float64Array, Float64Array]:
    defined = ~(np.isnan(before) | np.isnan(after))
    return before[defined], after[defined]


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _win_share(difference: Float64Array) -> float:
    return _mean((np.sign(difference) + 1) / 2)
