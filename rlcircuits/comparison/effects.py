"""Effects: one measure before and after, question by question, tested and sized.

The statistical unit is the question. Answers to one question are not independent, so a question's value is the mean
over its answers. An effect is judged on the paired differences, after minus before
(:mod:`rlcircuits.comparison.paired_statistics`). Accuracy is compared over all questions asked, by the exact sign
test, which with one answer to each question is McNemar's test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.paired_interval import paired_difference_interval, paired_difference_p
from rlcircuits.comparison.paired_statistics import mean_intervals, signed_rank
from rlcircuits.comparison.significance import p_in_words
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    from rlcircuits.answers.answer_file import Answers

ACCURACY_CONFIDENCE = 0.90
"""Confidence of accuracy's intervals: each end is a one-sided test at level .05."""

Number = Annotated[
    float,
    BeforeValidator(lambda value: float("nan") if value is None else value),
    PlainSerializer(lambda value: None if np.isnan(value) else value, when_used="json"),
    WithJsonSchema({"type": ["number", "null"]}),
]
"""A float whose NaN is written as null in JSON, which has no NaN."""


@dataclass(frozen=True)
class Effect:
    """One metric before and after, over the questions where it is defined (not NaN) in both."""

    metric: str
    before: Number
    """Mean over the questions, in the metric's unit."""
    after: Number
    change: Number
    """(after - before) / abs(before), of the means."""
    win_share: Number
    """Share of questions on which the metric rose; ties count half."""
    interval: tuple[Number, Number]
    """95 % bootstrap interval of the mean difference, in the metric's unit."""
    p_up: float
    """One-sided p of Wilcoxon's signed-rank test that the metric rose."""
    p_down: float
    """One-sided p of the same test that the metric fell."""
    p_two_sided: float
    questions: int
    """Questions where the metric is defined in both."""
    before_values: tuple[Number, ...]
    """One value a question, in the order of the comparison's questions."""
    after_values: tuple[Number, ...]

    @property
    def difference(self) -> float:
        """Return the mean of after - before, in the metric's unit."""
        return self.after - self.before

    def __repr__(self) -> str:
        means = f"{self.before:.4g} → {self.after:.4g} ({self.change:+.1%})"
        p = f"p = {p_in_words(self.p_up)} up, {p_in_words(self.p_down)} down"
        return short_repr(
            self, self.metric, means, f"rose on {self.win_share:.0%}", p, format_count(self.questions, "question")
        )


@dataclass(frozen=True)
class ControlEffect:
    """One metric of a noise control against before, over the questions where it is defined in both."""

    difference: Number
    """Mean of control - before, in the metric's unit."""
    change: Number
    """The difference over abs(mean before)."""
    win_share: Number
    """Share of questions on which the metric rose; ties count half."""
    interval: tuple[Number, Number]
    """95 % bootstrap interval of the difference."""
    p_up: float
    """One-sided p of Wilcoxon's signed-rank test that the metric rose."""
    p_down: float
    """One-sided p of the same test that the metric fell."""


@dataclass(frozen=True)
class AccuracyEffect:
    """Accuracy before and after, over all questions that both models were asked."""

    before: float
    after: float
    asked: int
    """Questions asked of both."""
    lost: int
    """Questions whose share of right answers fell; with one answer each, right before and wrong after."""
    gained: int
    """Questions whose share of right answers rose."""
    p_fall: float
    """One-sided p of the exact sign test that accuracy fell; with one answer to each question, McNemar's test."""
    interval: tuple[float, float] | None = None
    """90 % score interval of the mean of after - before over the questions, as shares; None in a file of a version that
    did not record it. Each end is a one-sided test at level .05."""

    @property
    def p_rise(self) -> float:
        """Return the one-sided p of the same test that accuracy rose."""
        return _sign_test(self.gained, self.lost)


@dataclass(frozen=True)
class AccuracyClaim:
    """What a release says of after's accuracy, beside what was found: a number, or another checkpoint's accuracy."""

    measure: Literal["claimed-accuracy", "reference-accuracy"]
    """Name of the claim among a verdict's measures."""
    reference: str | None
    """The other checkpoint, answered on the same questions with the same sampling; None for a number."""
    wanted: float
    """The number, or the other checkpoint's accuracy, as a share."""
    found: float
    """After's accuracy on the same questions."""
    asked: int
    """Questions asked of both."""
    margin: float
    """How far after may be below the claim, as a share."""
    interval: tuple[float, float]
    """90 % score interval of found - wanted; paired by question if there is another checkpoint."""
    p: float
    """One-sided p of the score test that after is below the claim."""


def paired_effects(before: Mapping[str, Float64Array], after: Mapping[str, Float64Array]) -> dict[str, Effect]:
    """Return the effect on every metric.

    A metric that is defined on no question, or changes on none, has p = 1.

    Args:
        before: by metric, its value on each question, float64 [K]; NaN where it is undefined.
        after: the same of the model after.
    """
    defined = {metric: where_defined(before[metric], after[metric]) for metric in before}
    intervals = mean_intervals({metric: y - x for metric, (x, y) in defined.items()})
    effects = {}
    for metric, (x, y) in defined.items():
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
    """Return one metric's effect; see :func:`paired_effects`.

    Args:
        metric: its name.
        before: its value on each question, float64 [K]; NaN where it is undefined.
        after: the same of the model after.
    """
    return paired_effects({metric: before}, {metric: after})[metric]


def control_effects(
    before: Mapping[str, Float64Array], control: Mapping[str, Float64Array]
) -> dict[str, ControlEffect]:
    """Return the effect of a noise control on every metric.

    Args:
        before: by metric, its value on each question, float64 [K]; NaN where it is undefined.
        control: the same of the base with noise.
    """
    defined = {metric: where_defined(before[metric], control[metric]) for metric in control}
    intervals = mean_intervals({metric: y - x for metric, (x, y) in defined.items()})
    effects = {}
    for metric, (x, y) in defined.items():
        difference, base = _mean(y - x), _mean(x)
        effects[metric] = ControlEffect(
            difference=difference,
            change=difference / abs(base) if base else float("nan"),
            win_share=_win_share(y - x),
            interval=intervals[metric],
            p_up=signed_rank(y - x, "greater"),
            p_down=signed_rank(y - x, "less"),
        )
    return effects


def compare_accuracy(before: Answers, after: Answers) -> AccuracyEffect:
    """Return both accuracies over the questions that both were asked, and the exact one-sided sign test for a fall.

    A question counts once, for the direction in which its share of right answers went; the size of the change does not
    matter. With one answer to each question the test is McNemar's.

    Raises:
        RLCircuitsError: the two share no question.
    """
    left, right = _shares_right(before), _shares_right(after)
    asked = [question for question in left if question in right]
    if not asked:
        raise RLCircuitsError("before and after answered no question in common; accuracy needs the same questions")
    lost = sum(right[q] < left[q] for q in asked)
    gained = sum(right[q] > left[q] for q in asked)
    return AccuracyEffect(
        before=sum(left[q] for q in asked) / len(asked),
        after=sum(right[q] for q in asked) / len(asked),
        asked=len(asked),
        lost=lost,
        gained=gained,
        p_fall=_sign_test(lost, gained),
        interval=paired_difference_interval(
            np.array([left[q] for q in asked]), np.array([right[q] for q in asked]), ACCURACY_CONFIDENCE
        ),
    )


def compare_with_claim(after: Answers, claimed: float, margin: float) -> AccuracyClaim:
    """Compare after's accuracy with the number that a release states.

    Args:
        after: all answers of after.
        claimed: the accuracy stated, from 0 to 1.
        margin: how far after may be below it.
    """
    right = np.array(list(_shares_right(after).values()))
    claim = _claim("claimed-accuracy", None, np.full_like(right, claimed), right, margin)
    return replace(claim, wanted=claimed)  # the mean of as many numbers is rounded


def compare_with_reference(after: Answers, reference: Answers, margin: float) -> AccuracyClaim:
    """Compare after's accuracy with another checkpoint's, over the questions that both were asked.

    Args:
        after: all answers of after.
        reference: all answers of the other checkpoint.
        margin: how far after may be below it.

    Raises:
        RLCircuitsError: the two share no question.
    """
    right, wanted = _shares_right(after), _shares_right(reference)
    asked = [question for question in right if question in wanted]
    if not asked:
        raise RLCircuitsError(
            "after and the reference answered no question in common; a claim needs the same questions"
        )
    theirs, ours = (np.array([side[question] for question in asked]) for side in (wanted, right))
    return _claim("reference-accuracy", reference.model, theirs, ours, margin)


def _claim(
    measure: Literal["claimed-accuracy", "reference-accuracy"],
    reference: str | None,
    wanted: Float64Array,
    found: Float64Array,
    margin: float,
) -> AccuracyClaim:
    return AccuracyClaim(
        measure=measure,
        reference=reference,
        wanted=float(wanted.mean()),
        found=float(found.mean()),
        asked=len(found),
        margin=margin,
        interval=paired_difference_interval(wanted, found, ACCURACY_CONFIDENCE),
        p=paired_difference_p(wanted, found, 0.0, "less"),
    )


def _sign_test(more: int, fewer: int) -> float:
    """Return the one-sided p of the exact sign test that `more` of the questions that changed is not chance."""
    return float(stats.binomtest(more, more + fewer, 0.5, alternative="greater").pvalue) if more + fewer else 1.0


def _shares_right(answers: Answers) -> dict[str, float]:
    """Return the share of right answers to each question."""
    grades: dict[str, list[bool]] = {}
    for item in answers.items:
        grades.setdefault(item.question_id, []).append(item.correct)
    return {question: sum(each) / len(each) for question, each in grades.items()}


def where_defined(before: Float64Array, after: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the values of the questions on which both are defined (not NaN), float64 [questions] each."""
    defined = ~(np.isnan(before) | np.isnan(after))
    return before[defined], after[defined]


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _win_share(difference: Float64Array) -> float:
    return _mean((np.sign(difference) + 1) / 2)
