"""Silent share: how many groups of rollouts teach nothing, since all their answers are right, or all are wrong.

Shuffle-R1 (arXiv 2508.05612). A group of G answers with one reward has no advantage. From c right answers of n

    silent share = mean over questions of [C(c, G) + C(n−c, G)] / C(n, G)

and the mean |standardised advantage| of a question whose rate is p is 2 √(p (1 − p)), the signal that is left.
"""

from __future__ import annotations

import numpy as np

from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.boundary import all_of_k, pass_at_k
from rlcircuits.vital_signs.counts import Counts
from rlcircuits.vital_signs.sign import Sign, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import SHUFFLE_R1

__all__ = ["GROUP", "signal_left", "signal_sign", "silent_share", "silent_sign"]

GROUP = 8
"""Group size where the caller names none, and each question has that many answers."""


def silent_share(counts: Counts, group: int) -> tuple[Float64Array, Float64Array]:
    """Return the chance that a group is all right, and that it is all wrong, float64 [questions] each.

    Args:
        counts: right answers.
        group: G, the size of a group; at most the answers that each question has.

    Raises:
        RLCircuitsError: the group is below 1 or above the number of answers to a question.
    """
    return all_of_k(counts, group), 1 - pass_at_k(counts, group)


def signal_left(counts: Counts) -> Float64Array:
    """Return each question's mean |standardised advantage| (population standard deviation), float64 [questions]."""
    shares = counts.shares
    return np.asarray(2 * np.sqrt(shares * (1 - shares)), dtype=np.float64)


def silent_sign(before: Counts, after: Counts, group: int | None = None) -> Sign:
    """Return the share of silent groups before and after. It is reported: towards 1 after training is as it should be.

    Args:
        before: right answers of before.
        after: those of after to the same questions.
        group: G; None: :data:`GROUP`, or the fewest answers to a question if these are fewer.
    """
    fewest = min(before.fewest, after.fewest)
    size = group or min(GROUP, fewest)
    name, unit = "silent_share", "share"
    if not 2 <= size <= fewest:
        return not_measurable(
            name,
            SHUFFLE_R1,
            unit,
            f"a group of {size} needs as many answers to each question, and at least 2; n is {fewest}",
        )
    (solved, dead), (solved_after, dead_after) = silent_share(before, size), silent_share(after, size)
    return paired_sign(
        name,
        SHUFFLE_R1,
        unit,
        f"groups of {size}: all right {solved.mean():.2f} → {solved_after.mean():.2f}, all wrong {dead.mean():.2f} → "
        f"{dead_after.mean():.2f}",
        solved + dead,
        solved_after + dead_after,
        details={
            "solved_before": float(solved.mean()),
            "solved_after": float(solved_after.mean()),
            "dead_before": float(dead.mean()),
            "dead_after": float(dead_after.mean()),
        },
    )


def signal_sign(before: Counts, after: Counts) -> Sign:
    """Return the signal that is left before and after; reported."""
    name, unit = "signal_left", "mean |advantage|"
    if min(before.fewest, after.fewest) < 2:
        return not_measurable(name, SHUFFLE_R1, unit, "it needs at least two answers to each question; raise n")
    note = "how strongly a group's answers still differ in reward; 0 where all are alike"
    return paired_sign(name, SHUFFLE_R1, unit, note, signal_left(before), signal_left(after))
