"""How much of what training gained in accuracy the rank-1 checkpoint has.

"On Predictability of RL Dynamics in LLMs" (arXiv 2510.00553) compares accuracies themselves, so that a model that did
not change has a high "relative accuracy" too. The share of the gain is

    recovery = (acc(rank 1) − acc(before)) / (acc(after) − acc(before)),

over the questions that all three were asked. Such a ratio means nothing where the gain may be zero.
"""

from __future__ import annotations

import numpy as np

from rlcircuits.comparison.paired_statistics import CONFIDENCE, mean_intervals
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.counts import Counts, common_counts
from rlcircuits.vital_signs.resampled_means import resampled_means
from rlcircuits.vital_signs.sign import Sign, not_measurable, reported
from rlcircuits.vital_signs.studies import ALPHA_RL

__all__ = ["rank1_recovery"]

NAME = "rank1_recovery"
UNIT = "share of gain"


def rank1_recovery(before: Counts, rank1: Counts, after: Counts) -> Sign:
    """Return the share of the gain in accuracy that the rank-1 checkpoint has, as a sign that is only reported.

    Args:
        before: right answers of the checkpoint before training.
        rank1: those of :class:`~rlcircuits.vital_signs.rank_one_source.RankOneSource`.
        after: those of the checkpoint after training.

    Returns:
        The sign. Its change is the share: 0 for before's accuracy, 1 for after's, and beyond 1 for a higher one. Its
        interval is a 95 % percentile bootstrap over questions. It is not measurable where the 95 % interval of the gain
        itself includes 0. Its details have the three accuracies and the gain with its interval.

    Raises:
        RLCircuitsError: no question was asked of all three.
    """
    before, after = common_counts(before, after)
    before, rank1 = common_counts(before, rank1)
    after = after.of(before.questions)
    gain, found = after.shares - before.shares, rank1.shares - before.shares
    interval = mean_intervals({"gain": gain})["gain"]
    details = {
        "accuracy_before": float(before.shares.mean()),
        "accuracy_rank1": float(rank1.shares.mean()),
        "accuracy_after": float(after.shares.mean()),
        "gain": float(gain.mean()),
        "gain_interval": list(interval),
    }
    questions = len(before.questions)
    if interval[0] <= 0 <= interval[1]:
        low, high = (f"{end:+.1%}" for end in interval)
        why = f"the gain in accuracy may be zero (95 % interval {low} to {high}), and a share of it means nothing"
        return not_measurable(NAME, ALPHA_RL, UNIT, why, questions=questions, details=details)
    return reported(
        NAME,
        ALPHA_RL,
        UNIT,
        f"before is {before.shares.mean():.1%} right, its rank-1 checkpoint {rank1.shares.mean():.1%} and after "
        f"{after.shares.mean():.1%}",
        change=float(found.mean() / gain.mean()),
        interval=_ratio_interval(found, gain),
        questions=questions,
        details=details,
    )


def _ratio_interval(numerator: Float64Array, denominator: Float64Array) -> tuple[float, float]:
    """Return the percentile bootstrap interval of mean(numerator) / mean(denominator), questions resampled together.

    A resample whose denominator is zero has an infinite ratio, or none where both are zero.
    """
    above, below = resampled_means(numerator, denominator)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = above / below
    tail = (1 - CONFIDENCE) / 2
    # An order statistic, because there is no number between infinite ones.
    low, high = np.nanquantile(ratios, [tail, 1 - tail], method="nearest")
    return float(low), float(high)
