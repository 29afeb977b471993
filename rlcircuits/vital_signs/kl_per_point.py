"""How far the policy moved for each point of accuracy that it gained.

Evolution Strategies at Scale (arXiv 2509.24372) compares training methods by reward against KL(after ‖ before), which
it estimates from after's sampled answers by k3 (J. Schulman, "Approximating KL Divergence"). At a sampled token, with
r = π_before / π_after,

    k3 = r − 1 − log r ≥ 0,        E_{token ~ after}[k3] = Σ_v p_v log(p_v / q_v),   p = after, q = before,

so its mean over after's own answers estimates the mean exact divergence at their positions.
"""

from __future__ import annotations

import numpy as np

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.paired_interval import paired_difference_interval
from rlcircuits.comparison.paired_statistics import CONFIDENCE, mean_intervals
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.counts import Counts, common_counts
from rlcircuits.vital_signs.exact_kl import check_same_answers
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.mass_audit import LOWEST
from rlcircuits.vital_signs.resampled_means import resampled_means
from rlcircuits.vital_signs.scored_answers import ScoredAnswers, common_questions
from rlcircuits.vital_signs.sign import Sign, no_room, not_measurable, reported
from rlcircuits.vital_signs.studies import ES_AT_SCALE

__all__ = ["k3", "kl_per_point"]

_NAME, _UNIT = "kl_per_point", "nats/token per accuracy point"


def k3(before: AnswerLogProbs, after: AnswerLogProbs) -> Float64Array:
    """Return Schulman's estimate k3 = r − 1 − log r of KL(after ‖ before), r = π_before / π_after, token by token.

    Args:
        before: the model before's table of answers that after drew.
        after: the model after's table of the same answers.

    Returns:
        float64 [tokens], in nats, from 0. Log-probabilities below −100 nats count as that.

    Raises:
        RLCircuitsError: the tables are of different answers or temperatures.
    """
    check_same_answers(before, after)
    theirs, ours = (np.maximum(table.log_probs.astype(np.float64), LOWEST) for table in (before, after))
    return np.asarray(np.expm1(theirs - ours) - (theirs - ours))


def kl_per_point(
    answers: ScoredAnswers,
    before: AnswerLogProbs,
    after: AnswerLogProbs,
    before_counts: Counts,
    after_counts: Counts,
    *,
    exact: Float64Array | None = None,
) -> Sign:
    """Return KL(after ‖ before) in nats a token, divided by the accuracy points gained.

    A question's divergence is the mean over after's answers to it of the mean over an answer's tokens. The sign's value
    is the mean over questions, divided by 100 × the mean gain of accuracy over the questions that both answered. Its
    interval is a percentile bootstrap over questions. The sign is only reported: what is much depends on the task, so
    hold it against pairs of your own.

    Args:
        answers: after's own answers.
        before: the model before's table of them, at the temperature at which they were drawn.
        after: the model after's table of them.
        before_counts: before's counts of right answers to its own.
        after_counts: after's.
        exact: the exact divergence at each answer token, float64 [tokens], from
            :func:`~rlcircuits.vital_signs.exact_kl.exact_kl` or ``stored_kl`` with p = after; None if it is not known.
            k3 then takes its place, which needs answers that were drawn from after's full distribution. Of other
            answers an exact divergence is the mean over the positions that they pass.

    Returns:
        The sign; ``details`` has the divergence (``kl``, nats/token; ``kl_answer``, nats/answer), its interval, k3
        beside it, and the points gained. Not measurable where accuracy did not rise by more than chance (each point
        then costs infinitely much); no room where before has every answer right.

    Raises:
        RLCircuitsError: a table that is of other answers or another temperature; exact divergences of other tokens; no
            question in common.
    """
    for table in (before, after):
        answers.check(table)
    sampled = k3(before, after)
    if exact is not None and exact.shape != sampled.shape:
        raise RLCircuitsError(
            f"exact divergences have shape {exact.shape}; one for each of the {len(sampled)} answer tokens is wanted"
        )
    old, new = common_counts(before_counts, after_counts)
    reason = "" if exact is not None else _no_estimate(answers, after.temperature)
    if reason:
        return not_measurable(_NAME, ES_AT_SCALE, _UNIT, reason)
    tokens = sampled if exact is None else exact
    divergence = answers.means(after.means(tokens))
    gain = 100 * (new.shares - old.shares)
    low, high = mean_intervals({"kl": divergence})["kl"]
    details: dict[str, object] = {
        "kl": float(divergence.mean()),
        "kl_interval": [low, high],
        "kl_answer": float(answers.means(after.sums(tokens)).mean()),
        "k3": float(answers.means(after.means(sampled)).mean()),
        "exact": exact is not None,
        "points": float(gain.mean()),
        "temperature": after.temperature,
    }
    return _per_point(answers, divergence, old, new, gain, details)


def _per_point(
    answers: ScoredAnswers,
    divergence: Float64Array,
    old: Counts,
    new: Counts,
    gain: Float64Array,
    details: dict[str, object],
) -> Sign:
    moved = f"KL(after ‖ before) is {divergence.mean():.4g} nats a token on after's own answers"
    if bool((old.shares == 1).all()):
        note = f"before has every answer right, so accuracy cannot rise; {moved}"
        return no_room(_NAME, ES_AT_SCALE, _UNIT, note, details=details)
    low, _ = paired_difference_interval(old.shares, new.shares, CONFIDENCE)
    if gain.mean() <= 0 or low <= 0:
        found = "did not rise" if gain.mean() <= 0 else "rose by no more than chance can"
        note = f"accuracy {found} ({gain.mean():+.2f} points), so a point's price has no bound; {moved}"
        return not_measurable(_NAME, ES_AT_SCALE, _UNIT, note, details=details)
    places, others = common_questions(answers.questions, new.questions)
    return reported(
        _NAME,
        ES_AT_SCALE,
        _UNIT,
        f"accuracy rose by {gain.mean():.2f} points; {moved}",
        change=float(divergence[places].mean() / gain.mean()),
        interval=_ratio_interval(divergence[places], gain[others]),
        questions=len(places),
        details=details,
    )


def _ratio_interval(divergence: Float64Array, gain: Float64Array) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of mean(divergence) / mean(gain); infinite where the gain is not.

    Args:
        divergence: of each question, float64 [K].
        gain: of the same questions, float64 [K].
    """
    price, points = resampled_means(divergence, gain)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(points > 0, price / points, np.inf)
    # "lower" and "higher" take an order statistic as it is: interpolation with an infinite one would give NaN.
    tail = (1 - CONFIDENCE) / 2
    return float(np.quantile(ratios, tail, method="lower")), float(np.quantile(ratios, 1 - tail, method="higher"))


def _no_estimate(answers: ScoredAnswers, temperature: float) -> str:
    """Return why k3 estimates no divergence on these answers, or nothing."""
    sampling = answers.sampling
    if sampling.temperature == 0:
        return "after's answers are greedy; without the exact divergence an estimate needs answers that were sampled"
    if sampling.top_p < 1:
        return (
            f"after's answers were drawn with top_p {sampling.top_p:g}; without the exact divergence an estimate needs "
            f"answers from the whole distribution"
        )
    if sampling.temperature != temperature:
        return f"the answers were drawn at temperature {sampling.temperature:g} and scored at {temperature:g}"
    return ""
