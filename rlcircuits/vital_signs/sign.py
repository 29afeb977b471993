"""One vital sign: a number of before and of after, how sure it is, and whether it is a reason to worry.

A sign has one of five outcomes:

- ``trouble``: there is evidence of what the sign warns of.
- ``no alarm``: there is no such evidence. That is not parity; the interval says what is still possible.
- ``no room``: the sign cannot move here, for example because every question is solved by both models.
- ``not measurable``: what it needs is missing, with the reason in the note.
- ``reported``: it has no threshold, and nothing is concluded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.effects import paired_effect
from rlcircuits.comparison.interval_evidence import p_above, p_below
from rlcircuits.comparison.paired_statistics import CONFIDENCE
from rlcircuits.graph.metrics import Float64Array
from rlcircuits.vital_signs.names import LOSSES

__all__ = [
    "LEVEL",
    "Outcome",
    "Sign",
    "Worse",
    "beyond_noise",
    "no_room",
    "not_measurable",
    "paired_sign",
    "reported",
    "with_threshold",
]

Outcome = Literal["trouble", "no alarm", "no room", "not measurable", "reported"]
Worse = Literal["up", "down"]


def _read_ends(interval: Any) -> Any:
    """Return an interval that was read from JSON, which has no infinity, with its null ends as what they were."""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return interval
    low, high = interval
    return (-math.inf if low is None else low, math.inf if high is None else high)


LEVEL = 0.01
"""Level of a sign's one-sided test. A sign is also in trouble only where its interval lies beyond the threshold."""


@dataclass(frozen=True)
class Sign:
    """One vital sign of a pair. Numbers are None where they are not defined."""

    name: str
    """Such as ``pass@8``."""
    study: str
    """The study that it is from, such as ``RL-PLUS (arXiv 2508.00222)``."""
    unit: str
    """Unit of before, after and the change, such as ``share`` or ``nats/token``."""
    outcome: Outcome
    note: str
    """One sentence: what was found, or why nothing can be."""
    before: float | None = None
    after: float | None = None
    change: float | None = None
    """Mean of after − before; of a sign of the pair as a whole, such as a KL divergence, its value."""
    interval: Annotated[tuple[float, float], BeforeValidator(_read_ends)] | None = None
    """95 % interval of the change; an end without a bound is infinite, and null in a file."""
    p: float | None = None
    """One-sided p of the change in the direction of trouble."""
    noise: tuple[float, ...] = ()
    """The change that each noise draw makes."""
    questions: int | None = None
    """Questions that it is measured on."""
    details: Mapping[str, object] = field(default_factory=dict)
    """More numbers, by name, that can be written as JSON: a curve, shares, counts."""

    def __repr__(self) -> str:
        return short_repr(self, self.name, self.outcome, self.note)


def no_room(name: str, study: str, unit: str, note: str, **numbers: object) -> Sign:
    """Return a sign that cannot move here.

    Args:
        name: its name.
        study: the study that it is from.
        unit: its unit.
        note: why it cannot move.
        numbers: other fields of :class:`Sign`.
    """
    return Sign(name, study, unit, "no room", note, **numbers)  # type: ignore[arg-type]


def not_measurable(name: str, study: str, unit: str, note: str, **numbers: object) -> Sign:
    """Return a sign for which something is missing; the arguments are those of :func:`no_room`."""
    return Sign(name, study, unit, "not measurable", note, **numbers)  # type: ignore[arg-type]


def reported(name: str, study: str, unit: str, note: str, **numbers: object) -> Sign:
    """Return a sign from which nothing is concluded; the arguments are those of :func:`no_room`."""
    return Sign(name, study, unit, "reported", note, **numbers)  # type: ignore[arg-type]


def paired_sign(
    name: str,
    study: str,
    unit: str,
    note: str,
    before: Float64Array,
    after: Float64Array,
    *,
    worse: Worse | None = None,
    threshold: float = 0.0,
    noise: Sequence[tuple[Float64Array, Float64Array]] = (),
    details: Mapping[str, object] | None = None,
) -> Sign:
    """Return a sign that has one value a question before and after, judged on the paired differences.

    It is in trouble if Wilcoxon's signed-rank test, one-sided, gives p below :data:`LEVEL`, the 95 % bootstrap interval
    of the mean difference lies beyond the threshold in the direction of trouble, and beyond every noise draw's mean.

    Args:
        name: its name.
        study: the study that it is from.
        unit: its unit.
        note: one sentence on what it is.
        before: one value a question, float64 [questions]; NaN where it is undefined.
        after: the same questions' values after.
        worse: the direction of trouble; None for a sign that is only reported.
        threshold: how large a change in that direction is still harmless, in the sign's unit, from 0.
        noise: for each noise draw, values before and with noise, of the questions that both have.
        details: more numbers.
    """
    effect = paired_effect(name, before, after)
    draws = tuple(_mean_difference(*draw) for draw in noise)
    known = tuple(draw for draw in draws if not math.isnan(draw))
    if not effect.questions:
        return not_measurable(name, study, unit, "it is defined on no question in both models", details=details or {})
    low, high = effect.interval
    outcome: Outcome = "reported"
    p: float | None = None
    if worse is not None:
        p = effect.p_up if worse == "up" else effect.p_down
        beyond = low > max((threshold, *known)) if worse == "up" else high < min((-threshold, *known))
        outcome = "trouble" if p < LEVEL and beyond else "no alarm"
    return Sign(
        name,
        study,
        unit,
        outcome,
        note,
        before=effect.before,
        after=effect.after,
        change=effect.difference,
        interval=(low, high),
        p=p,
        noise=known,
        questions=effect.questions,
        details=details or {},
    )


def beyond_noise(sign: Sign, draws: Sequence[Sign]) -> Sign:
    """Return a sign beside the same sign of each noise draw; trouble that is not larger than a draw's is no alarm.

    A loss (:data:`~rlcircuits.vital_signs.names.LOSSES`) stays trouble, whatever noise does.

    Args:
        sign: of before and after.
        draws: of before and each noise draw.
    """
    changes = tuple(draw.change for draw in draws if draw.change is not None)
    if sign.change is None or not changes:
        return sign
    within = min(0.0, *changes) <= sign.change <= max(0.0, *changes)
    if sign.outcome == "trouble" and within and sign.name not in LOSSES:
        note = f"{sign.note}; within what noise of the update's size does"
        return replace(sign, noise=changes, outcome="no alarm", note=note)
    return replace(sign, noise=changes)


def with_threshold(sign: Sign, worse: Worse, threshold: float) -> Sign:
    """Return a sign judged by a threshold of the user's: trouble if its interval lies beyond it in that direction.

    Its p is that of the evidence that the change lies beyond the threshold, from the interval's nearer end
    (:mod:`rlcircuits.comparison.interval_evidence`).

    Args:
        sign: the sign; one that has no interval keeps its outcome.
        worse: the direction of trouble.
        threshold: how large a change is harmless, in the sign's unit; below 0, how small one is not enough.
    """
    if sign.interval is None or sign.outcome in ("no room", "not measurable"):
        return sign
    low, high = sign.interval
    beyond = low > threshold if worse == "up" else high < -threshold
    change = (low + high) / 2 if sign.change is None else sign.change
    if worse == "up":
        p = p_above(change, sign.interval, threshold, CONFIDENCE)
    else:
        p = p_below(change, sign.interval, -threshold, CONFIDENCE)
    return replace(sign, outcome="trouble" if beyond else "no alarm", p=p)  # the old p was that of another rule


def _mean_difference(before: Float64Array, other: Float64Array) -> float:
    difference = other - before
    difference = difference[~np.isnan(difference)]
    return float(difference.mean()) if difference.size else float("nan")
