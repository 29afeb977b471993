"""Whether training led into a narrower place: what noise of the update's size costs after, beside before.

"Evolution Strategies at Scale" (arXiv 2509.24372) explains by the reward's flatness around a solution why its models
vary little from run to run. Here

    flatness = accuracy(checkpoint + noise of the update's norm) − accuracy(checkpoint)

of both checkpoints, with the same noise (:mod:`rlcircuits.vital_signs.shaken_source`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.counts import count_right
from rlcircuits.vital_signs.sign import Sign, not_measurable, paired_sign
from rlcircuits.vital_signs.studies import ES_AT_SCALE

__all__ = ["NAME", "flatness_sign"]

NAME = "flatness"
HARMLESS = 0.02


def flatness_sign(
    before: Answers, after: Answers, noised_before: Sequence[Answers], noised_after: Sequence[Answers]
) -> Sign:
    """Return what noise costs before and after; in trouble where it costs after more than two points more.

    A question's value is the mean over the draws. The test over questions knows nothing of how much draws differ, so
    trouble also needs that every draw costs after more than each costs before.

    Args:
        before: before's answers.
        after: after's answers to the same questions.
        noised_before: the answers of each noise draw on before.
        noised_after: the answers of each noise draw on after.
    """
    unit = "share"
    if not noised_before or not noised_after:
        return not_measurable(NAME, ES_AT_SCALE, unit, "no noise draw; measure the pair with noise_draws of at least 1")
    counts = [count_right(each) for each in (before, after, *noised_before, *noised_after)]
    shared = set.intersection(*(set(each.questions) for each in counts))
    common = tuple(question for question in counts[0].questions if question in shared)
    if not common:
        return not_measurable(NAME, ES_AT_SCALE, unit, "no question was answered with and without noise")
    ours, theirs, *noised = (each.of(common).shares for each in counts)
    of_before, of_after = _costs(ours, noised[: len(noised_before)]), _costs(theirs, noised[len(noised_before) :])
    means_before, means_after = of_before.mean(axis=1).tolist(), of_after.mean(axis=1).tolist()
    sign = paired_sign(
        NAME,
        ES_AT_SCALE,
        unit,
        f"accuracy with noise of the update's size less accuracy without it, over {len(noised_after)} draws",
        of_before.mean(axis=0),
        of_after.mean(axis=0),
        worse="down",
        threshold=HARMLESS,
        details={
            "accuracy": [float(ours.mean()), float(theirs.mean())],
            "before by draw": means_before,
            "after by draw": means_after,
        },
    )
    if sign.outcome == "trouble" and max(means_after) >= min(means_before):
        return replace(sign, outcome="no alarm", note=f"{sign.note}; some draw costs before as much")
    return sign


def _costs(plain: Float64Array, noised: Sequence[Float64Array]) -> Float64Array:
    """Return noised − plain, float64 [draws, questions]."""
    return np.stack(noised) - plain
