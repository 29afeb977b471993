"""Before and after on the same questions: every metric's paired difference, with its interval and p-values.

The unit is the question. Each metric gives one number a question and model; the effect is judged on the
paired differences, after minus before, by Wilcoxon's signed-rank test (it stays calibrated at a few dozen
questions, where normal-theory error bars do not), and sized by a bootstrap interval of the mean difference.
Accuracy is compared over all the questions asked, by McNemar's exact test. What the numbers should be is
none of this module's business: see :mod:`rlcircuits.expectations`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, PlainSerializer
from scipy import stats

from rlcircuits import metrics
from rlcircuits.errors import RLCircuitsError
from rlcircuits.metrics import Float64Array
from rlcircuits.pairing import Pairing

if TYPE_CHECKING:
    from rlcircuits.answers import Answers
    from rlcircuits.attribution import EdgeScores
    from rlcircuits.graph import EdgeGraph

Alternative = Literal["two-sided", "greater", "less"]

LABELS = {
    "intensity": "activation intensity",
    "complexity": "information complexity (histogram)",
    "kurtosis": "distribution kurtosis",
    "loss": "loss",
    "intensity_over_loss": "intensity / loss",
    "complexity_shared": "information complexity (shared range)",
    "complexity_mass": "information complexity (mass)",
    "effective_edges": "effective edges",
    "top_share": "share of the top 1 % of edges",
}
"""Every metric compared, by its name in a :class:`Comparison`, with the words for it."""

CONFIDENCE = 0.95
"""Of the bootstrap interval."""

RESAMPLES = 9999
"""Of the bootstrap."""

BOOTSTRAP_SEED = 42
"""The interval is the same from run to run."""

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


@dataclass(frozen=True)
class AccuracyEffect:
    """Accuracy before and after, on all the questions that both models were asked."""

    before: float
    after: float
    asked: int
    lost: int
    """Right before, wrong after."""
    gained: int
    """Wrong before, right after."""
    p_fall: float
    """One-sided p of McNemar's exact test: accuracy fell."""


@dataclass(frozen=True)
class Group:
    """Mean intensity over a group of edges, before and after (mean over the questions, in nats)."""

    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """Everything measured on one pair of checkpoints. To JSON and back: :mod:`rlcircuits.report.json`."""

    name: str
    before: str
    """The checkpoint's folder or hub id."""
    after: str
    algorithm: str
    questions: str
    """The question set's name."""
    split: str
    granularity: str
    sampling: dict[str, int | float]
    """How both models' answers were drawn: the fields of :class:`~rlcircuits.answers.Sampling`."""
    alpha: float
    balance: float
    question_ids: tuple[str, ...]
    t_cut: int
    ref: float
    funnel: dict[str, int]
    note: str | None
    accuracy: AccuracyEffect
    effects: dict[str, Effect]
    """By metric, in the order of :data:`LABELS`."""
    by_reader_kind: dict[str, Group]
    by_layer_band: dict[str, Group]

    @property
    def k(self) -> int:
        """Questions compared."""
        return len(self.question_ids)


def compare(
    before: EdgeScores,
    after: EdgeScores,
    pairing: Pairing,
    before_answers: Answers,
    after_answers: Answers,
    *,
    name: str,
    algorithm: str,
) -> Comparison:
    """Compare two checkpoints' scores (row i: question i of `pairing`) and answers.

    Raises RLCircuitsError where the two graphs differ, the scores are not of the pairing's questions, or
    the answers share no question.
    """
    check_same_graph(before, after)
    wanted = len(pairing.question_ids)
    for side, scores in (("before", before), ("after", after)):
        if len(scores.values) != wanted:
            raise RLCircuitsError(
                f"the {side} scores are of {len(scores.values)} sequences; the pairing has {wanted} questions"
            )
    first, second = _all_metrics(before, after)
    return Comparison(
        name=name,
        before=before_answers.model,
        after=after_answers.model,
        algorithm=algorithm,
        questions=before_answers.question_set,
        split=before_answers.split,
        granularity=before.graph.granularity,
        sampling=asdict(before_answers.sampling),
        alpha=pairing.alpha,
        balance=pairing.balance,
        question_ids=pairing.question_ids,
        t_cut=pairing.t_cut,
        ref=pairing.ref,
        funnel=dict(pairing.funnel),
        note=pairing.note,
        accuracy=compare_accuracy(before_answers, after_answers),
        effects={metric: paired_effect(metric, first[metric], second[metric]) for metric in LABELS},
        by_reader_kind=_groups(metrics.intensity_by_reader_kind(before), metrics.intensity_by_reader_kind(after)),
        by_layer_band=_groups(metrics.intensity_by_layer_band(before), metrics.intensity_by_layer_band(after)),
    )


def check_same_graph(before: EdgeScores, after: EdgeScores) -> None:
    """Raise RLCircuitsError unless both scores are over the same writers, readers and edges."""
    ours, theirs = before.graph, after.graph
    if not ours.same_as(theirs):
        raise RLCircuitsError(
            f"before and after have different graphs ({_size(ours)} and {_size(theirs)}); a pair needs two "
            f"checkpoints of one architecture and size, scored at one granularity"
        )


def paired_effect(metric: str, before: Float64Array, after: Float64Array) -> Effect:
    """One metric's effect from its value on each question: float64 [K] before and after, NaN where undefined.

    Questions where either is NaN are left out; ``questions`` counts the others. No question left, or no
    difference anywhere, has p = 1.
    """
    defined = ~(np.isnan(before) | np.isnan(after))
    x, y = before[defined], after[defined]
    difference = y - x
    mean_x, mean_y = (float(v.mean()) if v.size else float("nan") for v in (x, y))
    return Effect(
        metric=metric,
        before=mean_x,
        after=mean_y,
        change=(mean_y - mean_x) / abs(mean_x) if mean_x else float("nan"),
        win_share=float(np.mean((np.sign(difference) + 1) / 2)) if x.size else float("nan"),
        interval=_interval(difference),
        p_up=signed_rank(difference, "greater"),
        p_down=signed_rank(difference, "less"),
        p_two_sided=signed_rank(difference, "two-sided"),
        questions=int(x.size),
        before_values=tuple(before.tolist()),
        after_values=tuple(after.tolist()),
    )


def signed_rank(difference: Float64Array, alternative: Alternative) -> float:
    """Give p of Wilcoxon's signed-rank test on differences [K], zeros ranked (Pratt); 1 where all are zero."""
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="pratt", alternative=alternative).pvalue)


def compare_accuracy(before: Answers, after: Answers) -> AccuracyEffect:
    """Accuracy on every question both were asked, and McNemar's exact one-sided test for a fall."""
    left = {item.question_id: item.correct for item in before.items}
    right = {item.question_id: item.correct for item in after.items}
    asked = [question for question in left if question in right]
    if not asked:
        raise RLCircuitsError("before and after answered no question in common; accuracy needs the same questions")
    lost = sum(left[q] and not right[q] for q in asked)
    gained = sum(right[q] and not left[q] for q in asked)
    fall = stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue if lost + gained else 1.0
    return AccuracyEffect(
        before=sum(left[q] for q in asked) / len(asked),
        after=sum(right[q] for q in asked) / len(asked),
        asked=len(asked),
        lost=lost,
        gained=gained,
        p_fall=float(fall),
    )


def _all_metrics(before: EdgeScores, after: EdgeScores) -> tuple[dict[str, Float64Array], dict[str, Float64Array]]:
    """Every metric of :data:`LABELS` for both, [K] each."""
    shared = (0.0, np.maximum(metrics.largest(before), metrics.largest(after)))

    def measure(scores: EdgeScores) -> dict[str, Float64Array]:
        return {
            "intensity": metrics.activation_intensity(scores),
            "complexity": metrics.information_complexity(scores),
            "kurtosis": metrics.distribution_kurtosis(scores),
            "loss": np.asarray(scores.loss, dtype=np.float64),
            "intensity_over_loss": metrics.intensity_over_loss(scores),
            "complexity_shared": metrics.information_complexity(scores, "histogram-shared", value_range=shared),
            "complexity_mass": metrics.information_complexity(scores, "mass"),
            "effective_edges": metrics.effective_edges(scores),
            "top_share": metrics.top_share(scores),
        }

    return measure(before), measure(after)


def _interval(difference: Float64Array) -> tuple[float, float]:
    """Bootstrap interval of the mean difference; a point where all differences are the same."""
    if not difference.size:
        return (float("nan"), float("nan"))
    if np.ptp(difference) == 0:
        return (float(difference[0]), float(difference[0]))
    result: Any = stats.bootstrap(
        (difference,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return (float(result.confidence_interval.low), float(result.confidence_interval.high))


def _size(graph: EdgeGraph) -> str:
    return f"{len(graph.writers)} writers, {len(graph.readers)} readers, {graph.n_edges} edges"


def _groups(before: dict[str, Float64Array], after: dict[str, Float64Array]) -> dict[str, Group]:
    return {name: Group(float(before[name].mean()), float(after[name].mean())) for name in before}
