"""pass@k: the chance that at least one of k answers is right, of both models, and whether the boundary moved.

RL-PLUS (arXiv 2508.00222) and arXiv 2504.13837 found that RL raises pass@1 and can lower pass@k at large k: questions
that the base solves now and then are no longer solved at all. From c right answers of n (Chen et al., arXiv 2107.03374)

    pass@k = 1 − C(n−c, k) / C(n, k)          pass^k = C(c, k) / C(n, k)

pass^k, the chance that all of k answers are right, is its dual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.paired_statistics import CONFIDENCE, signed_rank
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.counts import Counts
from rlcircuits.vital_signs.sign import LEVEL, Sign, no_room, not_measurable
from rlcircuits.vital_signs.studies import RL_PLUS

__all__ = ["PassAtKBand", "all_of_k", "boundary_sign", "lost_questions_sign", "pass_at_k", "pass_at_k_band"]

SATURATED = 0.99
"""Where both models pass more than this share of the questions at the largest k, the boundary has no room to move."""

_DRAWS, _SEED = 9999, 42
_DRAWS_AT_A_TIME = 1000
_CONFIRMING_LEVEL = 0.05


def pass_at_k(counts: Counts, k: int) -> Float64Array:
    """Return the unbiased estimate of each question's pass@k, float64 [questions].

    Args:
        counts: right answers.
        k: number of answers of which one must be right; at most the answers that each question has.

    Raises:
        RLCircuitsError: k is below 1 or above the number of answers to a question.
    """
    _check_k(counts, k)
    return np.asarray(stats.hypergeom.sf(0, counts.answers, counts.right, k), dtype=np.float64)


def all_of_k(counts: Counts, k: int) -> Float64Array:
    """Return the unbiased estimate of each question's pass^k, float64 [questions]; see :func:`pass_at_k`."""
    _check_k(counts, k)
    return np.asarray(stats.hypergeom.pmf(k, counts.answers, counts.right, k), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class PassAtKBand:
    """pass@k of both models for k = 1 … K, and a simultaneous 95 % band of the difference. Arrays are float64 [K]."""

    before: Float64Array
    after: Float64Array
    lower: Float64Array
    """Lower end of after − before. Where no question differs, it is −1: nothing is known of the variance."""
    upper: Float64Array
    p_fall: float
    """One-sided p, over all k together, that pass@k fell at some k."""
    falls_at: tuple[int, ...]
    """The k at which it fell: the band lies below 0, and so says the signed-rank test at level .05."""


def pass_at_k_band(before: Counts, after: Counts, largest: int | None = None) -> PassAtKBand:
    """Return both curves and the band of their difference, over questions.

    The band is a sup-t band: Gaussian multipliers of the questions give the distribution of the largest standardised
    deviation over all k, whose 95 % quantile is the band's half width in standard errors. It speaks about other
    questions, and not about another training. Its normal theory is too narrow where few questions changed, so
    a fall must be confirmed by the exact signed-rank test.

    Args:
        before: right answers of before.
        after: those of after to the same questions.
        largest: the largest k; None: as many answers as each question has in both.

    Raises:
        RLCircuitsError: the questions differ, there are fewer than two, or ``largest`` is above the answers to one.
    """
    if before.questions != after.questions or len(before.questions) < 2:
        raise RLCircuitsError("pass@k needs the same questions of both models, at least two; see common_counts")
    sizes = range(1, (largest or min(before.fewest, after.fewest)) + 1)
    ours = np.stack([pass_at_k(before, k) for k in sizes], axis=1)
    theirs = np.stack([pass_at_k(after, k) for k in sizes], axis=1)
    difference = theirs - ours
    mean, error = difference.mean(axis=0), difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    known = error > 1e-12
    standardised = (difference - mean)[:, known] / (error[known] * len(difference))
    two_sided, below = _largest_deviations(standardised)
    width = float(np.quantile(two_sided, CONFIDENCE)) if known.any() else 0.0
    lower, upper = np.where(known, mean - width * error, -1.0), np.where(known, mean + width * error, 1.0)
    seen = float(np.max(-mean[known] / error[known])) if known.any() else -np.inf
    p_fall = (1 + int(np.count_nonzero(below >= seen))) / (1 + _DRAWS)
    falls = tuple(
        k
        for k, end, each in zip(sizes, upper, difference.T, strict=True)
        if end < 0 and signed_rank(each, "less") < _CONFIRMING_LEVEL
    )
    return PassAtKBand(ours.mean(axis=0), theirs.mean(axis=0), lower, upper, p_fall, falls)


def boundary_sign(before: Counts, after: Counts) -> Sign:
    """Return the change of pass@k at the largest k, in trouble where pass@k fell at any k.

    Args:
        before: right answers of before.
        after: those of after to the same questions.
    """
    largest = min(before.fewest, after.fewest)
    name, unit = "pass@k", "share"
    if largest < 2 or len(before.questions) < 2:
        return not_measurable(name, RL_PLUS, unit, "it needs at least two answers to each of two questions; raise n")
    if not (before.right.any() or after.right.any()):
        return no_room(name, RL_PLUS, unit, "neither model solves any question")
    band = pass_at_k_band(before, after, largest)
    known = band.lower[-1] > -1 or band.upper[-1] < 1
    interval = (float(band.lower[-1]), float(band.upper[-1])) if known else None
    change = float(band.after[-1] - band.before[-1])
    numbers: dict[str, object] = {
        "before": float(band.before[-1]),
        "after": float(band.after[-1]),
        "change": change,
        "interval": interval,
        "p": band.p_fall,
        "questions": len(before.questions),
        "details": {
            "k": list(range(1, largest + 1)),
            "before": band.before.tolist(),
            "after": band.after.tolist(),
            "lower": band.lower.tolist(),
            "upper": band.upper.tolist(),
            "all_before": [float(all_of_k(before, k).mean()) for k in range(1, largest + 1)],
            "all_after": [float(all_of_k(after, k).mean()) for k in range(1, largest + 1)],
            "falls_at": list(band.falls_at),
        },
    }
    if band.falls_at and band.p_fall < LEVEL:
        where = f"k = {band.falls_at[0]}" + (f" to {band.falls_at[-1]}" if len(band.falls_at) > 1 else "")
        return Sign(name, RL_PLUS, unit, "trouble", f"at k = {largest}; it fell at {where}", **numbers)  # type: ignore[arg-type]
    if min(band.before[-1], band.after[-1]) > SATURATED:
        return no_room(
            name, RL_PLUS, unit, f"both models solve more than {SATURATED:.0%} of the questions in {largest}", **numbers
        )
    return Sign(name, RL_PLUS, unit, "no alarm", f"at k = {largest}; it fell at no k", **numbers)  # type: ignore[arg-type]


def lost_questions_sign(before: Counts, after: Counts) -> Sign:
    """Return how many questions before solved at least once and after never, beside what chance makes.

    Where a question's rate did not change, its s right answers lie anywhere among both models' answers, so that all are
    before's with probability C(n_before, s) / C(n_before + n_after, s). The number of lost questions is tested against
    the sum of such events (Poisson binomial), one-sided.

    Args:
        before: right answers of before.
        after: those of after to the same questions.
    """
    name, unit = "lost_questions", "questions"
    total = before.right + after.right
    if not total.any():
        return no_room(name, RL_PLUS, unit, "neither model solves any question")
    all_before = stats.hypergeom.pmf(total, before.answers + after.answers, total, before.answers)
    chance = np.asarray(all_before, dtype=np.float64)[total > 0]
    lost = (before.right > 0) & (after.right == 0)
    won = (before.right == 0) & (after.right > 0)
    count, expected = int(lost.sum()), float(chance.sum())
    p = float(stats.poisson_binom.sf(count - 1, chance))
    examples = [question for question, is_lost in zip(before.questions, lost, strict=True) if is_lost]
    return Sign(
        name,
        RL_PLUS,
        unit,
        "trouble" if p < LEVEL else "no alarm",
        f"{count} solved before and never after, {expected:.1f} expected by chance; {int(won.sum())} the other way",
        change=float(count),
        p=p,
        questions=len(before.questions),
        details={"expected": expected, "won": int(won.sum()), "lost": examples},
    )


def _largest_deviations(standardised: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return for each draw of multipliers the largest |deviation| over all k, and the largest one downwards."""
    if not standardised.shape[1]:
        return np.zeros(_DRAWS), np.zeros(_DRAWS)
    rng = np.random.default_rng(_SEED)
    found = []
    for start in range(0, _DRAWS, _DRAWS_AT_A_TIME):
        count = min(_DRAWS_AT_A_TIME, _DRAWS - start)
        found.append(rng.standard_normal((count, len(standardised))) @ standardised)
    deviations = np.concatenate(found)
    return np.abs(deviations).max(axis=1), (-deviations).max(axis=1)


def _check_k(counts: Counts, k: int) -> None:
    if not 1 <= k <= counts.fewest:
        raise RLCircuitsError(f"k is {k}; it must be from 1 to {counts.fewest}, the fewest answers to one question")
