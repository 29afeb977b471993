"""Pool a metric's effect over the pairs of one algorithm: over training seeds, bases and question sets.

**What is estimated.** The relative change that the algorithm makes to a pair's mean,
(mean after − mean before) / abs(mean before), averaged over trainings like those given, on the question sets given.
It is the number that tables show as a pair's change. (A ratio of logarithms would not do: kurtosis may be negative.)

**From what.** A question's value is its contribution to that change,
(after − R · before) / abs(mean before) + change, with R = mean after / mean before. A pair's contributions have the
change as their mean, and their spread gives the error of the change, that of the mean before included.

**How.** A mixed model with random intercepts, fitted by restricted maximum likelihood (statsmodels' MixedLM):
questions lie in pairs, and pairs in clusters. A cluster is what was drawn independently of the others: by default a
base, with all pairs that were trained from it and all question sets that they answered. The interval takes Student's t
with one degree of freedom fewer than there are clusters. What decides is the number of clusters; a thousand questions
more do not say what the next training would do.

**With few clusters.** Under :data:`MIN_CLUSTERS` there is no interval. The spread of two numbers is known so badly
that an honest interval, with one degree of freedom, is wider than thirteen times their standard error, and a shorter
one would be wrong.

**As a check**, the clusters' means are resampled (scipy.stats.bootstrap). That interval makes no assumption about the
spread, but with fewer than about ten clusters it is too narrow, so it is only shown beside the first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import format_count, short_repr
from rlcircuits.comparison.effects import where_defined
from rlcircuits.comparison.paired_statistics import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.graph.metrics import Float64Array

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.effects import Effect

ClusterBy = Literal["base", "training"]
"""What the interval speaks about: other bases trained by the algorithm, or other trainings from the same bases."""

MIN_CLUSTERS = 3
"""Fewest clusters that have an interval."""

_TOO_NARROW_BELOW = 10  # clusters, for the bootstrap
_OPTIMISERS = ("powell", "nm")  # those that follow the gradient diverge where the pairs do not differ
_NO_DIFFERENCE = 1e-3  # between pairs, in units of the questions' spread: what the optimisers leave of zero
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PooledEffect:
    """A metric's relative change, pooled over pairs. Numbers are shares: 0.1 is a rise by 10 %."""

    metric: str
    estimate: float
    """The mean change over the clusters."""
    interval: tuple[float, float] | None
    """95 % interval of the estimate; None with fewer clusters than :data:`MIN_CLUSTERS`."""
    bootstrap_interval: tuple[float, float] | None
    """95 % interval from resampling whole clusters, as a check; None where `interval` is."""
    between_pair_sd: float | None
    """Standard deviation of the pairs' true changes, without the sampling error of their questions; None for a single
    pair, and where the mixed model could not be fitted."""
    cluster_by: ClusterBy
    clusters: int
    pairs: int
    """Pairs of checkpoints, each on one question set."""
    question_sets: int
    questions: int
    """Questions over all pairs; one that several pairs answered counts several times."""
    note: str | None
    """What a reader must know beside the numbers."""

    def __repr__(self) -> str:
        return short_repr(self, self.words)

    @property
    def words(self) -> str:
        """Return the estimate in words: ``intensity: +21.7 % [+13.4 %, +30.0 %] over 5 bases (5 pairs)``."""
        of = f"over {format_count(self.clusters, self.cluster_by)} ({format_count(self.pairs, 'pair')})"
        interval = (
            "no interval" if self.interval is None else f"[{_percent(self.interval[0])}, {_percent(self.interval[1])}]"
        )
        return f"{self.metric}: {_percent(self.estimate)} {interval} {of}"


@dataclass(frozen=True, eq=False)
class _Contributions:
    """The questions' contributions to one pair's change."""

    cluster: str
    values: Float64Array  # [questions]


@dataclass(frozen=True)
class _Fit:
    estimate: float
    error: float
    between_sd: float | None
    note: str | None


@validate_arguments
def pool_effect(comparisons: Sequence[Comparison], metric: str, *, cluster_by: ClusterBy = "base") -> PooledEffect:
    """Return one metric's effect pooled over comparisons of one algorithm; see this module.

    The result does not depend on the comparisons' order.

    Args:
        comparisons: pairs trained with one algorithm, each on one question set; one at least.
        metric: one that every comparison has.
        cluster_by: ``base`` treats all pairs with the same checkpoint before as one cluster, and the interval speaks
            about other bases. ``training`` treats each checkpoint after as one, and the interval speaks about other
            trainings from these bases, on these questions.

    Raises:
        RLCircuitsError: there is no comparison, two are of the same pair and question set, their algorithms differ, one
            lacks the metric, or its mean before is zero or undefined.
    """
    ordered = _checked(comparisons, metric)
    pairs = [
        _Contributions(each.before if cluster_by == "base" else each.after, _contributions(each, metric))
        for each in ordered
    ]
    clusters = len({pair.cluster for pair in pairs})
    fit = _fit(pairs)
    notes = [fit.note] if fit.note else []
    interval = resampled = None
    if clusters < MIN_CLUSTERS:
        notes.append(_too_few(clusters, cluster_by, len({each.after for each in ordered})))
    else:
        margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, clusters - 1)) * fit.error
        interval = (fit.estimate - margin, fit.estimate + margin)
        resampled = _bootstrap(pairs)
        if clusters < _TOO_NARROW_BELOW:
            notes.append(f"the bootstrap interval is too narrow with only {clusters} clusters")
    return PooledEffect(
        metric=metric,
        estimate=fit.estimate,
        interval=interval,
        bootstrap_interval=resampled,
        between_pair_sd=fit.between_sd,
        cluster_by=cluster_by,
        clusters=clusters,
        pairs=len(pairs),
        question_sets=len({each.questions for each in ordered}),
        questions=sum(pair.values.size for pair in pairs),
        note="; ".join(notes) or None,
    )


def pool_effects(
    comparisons: Sequence[Comparison], metrics: Sequence[str] = GATE_METRICS, *, cluster_by: ClusterBy = "base"
) -> dict[str, PooledEffect]:
    """Return the pooled effect on each metric; see :func:`pool_effect`."""
    return {metric: pool_effect(comparisons, metric, cluster_by=cluster_by) for metric in metrics}


def _checked(comparisons: Sequence[Comparison], metric: str) -> list[Comparison]:
    """Return the comparisons in an order of their own, or raise RLCircuitsError."""
    if not comparisons:
        raise RLCircuitsError("pool_effect: comparisons is empty; one at least is wanted")
    algorithms = sorted({each.algorithm.lower() for each in comparisons})
    if len(algorithms) > 1:
        raise RLCircuitsError(f"pool_effect: the pairs' algorithms are {', '.join(algorithms)}; pool those of one")
    seen: dict[tuple[str, str, str], str] = {}
    for each in comparisons:
        key = (each.before, each.after, each.questions)
        if key in seen:
            raise RLCircuitsError(
                f"pool_effect: pairs {truncated_repr(seen[key])} and {truncated_repr(each.name)} are the same "
                f"checkpoints on the same questions; give one of them, since a repeated pair is not further evidence"
            )
        seen[key] = each.name
        if metric not in each.effects:
            raise RLCircuitsError(
                f"pool_effect: metric is {truncated_repr(metric)}; pair {truncated_repr(each.name)} has "
                f"{', '.join(each.effects)}"
            )
    return sorted(comparisons, key=lambda each: (each.before, each.after, each.questions))


def _contributions(comparison: Comparison, metric: str) -> Float64Array:
    """Return the questions' contributions to the relative change, float64 [questions]; their mean is the change."""
    effect: Effect = comparison.effects[metric]
    before, after = where_defined(np.asarray(effect.before_values), np.asarray(effect.after_values))
    mean = before.mean() if before.size else math.nan
    if not mean or math.isnan(mean):
        raise RLCircuitsError(
            f"pool_effect: pair {truncated_repr(comparison.name)} has a mean {metric} before of {mean}; a relative "
            f"change needs another number than zero. Leave the pair out"
        )
    change = (after.mean() - mean) / abs(mean)
    contributions: Float64Array = (after - after.mean() / mean * before) / abs(mean) + change
    return contributions


def _fit(pairs: Sequence[_Contributions]) -> _Fit:
    """Fit the mixed model, or take the clusters' means where it cannot be fitted."""
    values = np.concatenate([pair.values for pair in pairs])
    unit = float(values.std())
    within = max(float(np.ptp(pair.values)) for pair in pairs)
    if len(pairs) == 1 or within <= _ROUNDING * float(np.abs(values).max()):
        means = np.array([pair.values.mean() for pair in pairs])  # without sampling error
        between = float(means.std(ddof=1)) if means.size > 1 else None
        return _Fit(float(_cluster_means(pairs).mean()), _mean_error(pairs), between, None)
    # The optimisers' tolerances are absolute, so the model is fitted in units of the questions' spread. Where they stop
    # depends on the sign too, so a fall is fitted as the rise that mirrors it.
    sign = -1.0 if float(values.sum()) < 0 else 1.0
    result = _fit_mixed_model(pairs, sign * values / unit)
    if result is None:
        note = "the mixed model did not converge: estimate and interval are those of the clusters' means"
        return _Fit(float(_cluster_means(pairs).mean()), _mean_error(pairs), None, note)
    between = unit * math.sqrt(max(_between_variance(result), 0.0))
    estimate, error = sign * unit * float(result.fe_params[0]), unit * float(result.bse_fe[0])
    if between < _NO_DIFFERENCE * unit:
        return _Fit(estimate, error, 0.0, "the pairs do not differ by more than their questions' sampling error")
    return _Fit(estimate, error, between, None)


def _fit_mixed_model(pairs: Sequence[_Contributions], values: Float64Array) -> Any | None:
    """Return statsmodels' result, or None if no optimiser converges."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec  # takes seconds to import

    clusters = [pair.cluster for pair in pairs for _ in range(pair.values.size)]
    nested: dict[str, Any] = {}
    if len({pair.cluster for pair in pairs}) < len(pairs):
        columns, indicators = _pair_indicators(pairs)
        nested = {"exog_vc": VCSpec(["pair"], [columns], [indicators])}
    model = MixedLM(values, np.ones((values.size, 1)), groups=clusters, exog_re=np.ones((values.size, 1)), **nested)
    for optimiser in _OPTIMISERS:
        with warnings.catch_warnings():
            # What these warnings say (no convergence, a variance near zero) is read from the result instead.
            warnings.simplefilter("ignore")
            try:
                result = model.fit(reml=True, method=optimiser)
            except (np.linalg.LinAlgError, ValueError):
                continue
            if result.converged and _possible(result, pairs, values):
                return result
    return None


def _possible(result: Any, pairs: Sequence[_Contributions], values: Float64Array) -> bool:
    """Return whether a fit can be right; statsmodels also calls some converged where the likelihood is infinite.

    The estimate is a weighted mean of the pairs' means, so it lies among them, and no weighted mean with the best
    weights is less certain than a single pair's mean.
    """
    sizes = [pair.values.size for pair in pairs]
    means = [part.mean() for part in np.split(values, np.cumsum(sizes)[:-1])]
    estimate, error = float(result.fe_params[0]), float(result.bse_fe[0])
    single_pair = math.sqrt(max(_between_variance(result), 0.0) + result.scale / min(sizes))
    return min(means) <= estimate <= max(means) and 0 < error <= 1.001 * single_pair


def _between_variance(result: Any) -> float:
    return float(np.sum(result.cov_re) + np.sum(result.vcomp))


def _pair_indicators(pairs: Sequence[_Contributions]) -> tuple[list[list[str]], list[Float64Array]]:
    """Return, for each cluster in sorted order, its pairs' names and which of its questions is of which pair."""
    by_cluster: dict[str, list[int]] = {}
    for pair in pairs:
        by_cluster.setdefault(pair.cluster, []).append(pair.values.size)
    columns, indicators = [], []
    for cluster in sorted(by_cluster):
        sizes = by_cluster[cluster]
        columns.append([str(place) for place in range(len(sizes))])
        indicators.append(np.repeat(np.eye(len(sizes)), sizes, axis=0))
    return columns, indicators


def _cluster_means(pairs: Sequence[_Contributions]) -> Float64Array:
    """Return each cluster's mean over the means of its pairs, in sorted order of the clusters."""
    by_cluster: dict[str, list[float]] = {}
    for pair in pairs:
        by_cluster.setdefault(pair.cluster, []).append(float(pair.values.mean()))
    return np.array([np.mean(by_cluster[cluster]) for cluster in sorted(by_cluster)])


def _mean_error(pairs: Sequence[_Contributions]) -> float:
    """Return the standard error of the mean of the clusters' means; NaN for one cluster."""
    means = _cluster_means(pairs)
    return float(means.std(ddof=1) / math.sqrt(means.size)) if means.size > 1 else math.nan


def _bootstrap(pairs: Sequence[_Contributions]) -> tuple[float, float]:
    means = _cluster_means(pairs)
    result = stats.bootstrap(
        (means,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",  # BCa's correction for skewness cannot be estimated from a handful of clusters
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    low, high = result.confidence_interval
    return float(low), float(high)


def _too_few(clusters: int, cluster_by: ClusterBy, trainings: int) -> str:
    note = (
        f"no interval, since {format_count(clusters, cluster_by)} cannot show how much such pairs differ: at least "
        f"{MIN_CLUSTERS} are needed"
    )
    if cluster_by == "base" and trainings >= MIN_CLUSTERS:
        return f'{note}, or cluster_by="training" for an interval over the {trainings} trainings from these bases'
    return note


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"
