"""What is known of a pair before it runs: rates, discordant answers, questions left to compare, the metrics' spread.

Used are the answers of its models, in the store or recorded, and an earlier comparison. A number that these do not give
is assumed. Each number says where it is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import Side
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import Effect, where_defined
from rlcircuits.comparison.funnel import ANSWER_STAGES, Funnel, length_stages, reference_length
from rlcircuits.comparison.power import discordant_if_independent
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.plan_store import KnownAnswers

TYPICAL_SPREAD: Mapping[str, float] = MappingProxyType({"intensity": 0.307, "complexity": 0.074, "kurtosis": 0.277})
"""Standard deviation of the questions' differences, over before's mean: the median over the shipped pairs.

The 40 pairs range from 0.12 to 0.56, 0.05 to 0.12 and 0.11 to 0.43. They have one answer to a question; several are
taken to change nothing, which is on the safe side. `python -m fixtures.study.spread DIR` prints these numbers."""

TYPICAL_DISCORDANT = 0.52
"""Share of discordant answers over what independent answers give: the median over the shipped pairs.

They range from 0.19 to 0.81. Both checkpoints of a pair are sampled with the same seed, and agree more often than by
chance. The same command prints it."""

ASSUMED_RATE = 0.86
"""Share of right answers that is assumed of a model that has not answered yet."""

ENOUGH_QUESTIONS = 100
"""Questions, or all that are asked, whose answers tell a rate: its standard error is then at most 5 points."""

ENOUGH_FOR_SPREAD = 15
"""Questions whose differences tell a spread, to about 18 %."""

EARLIER = "an earlier comparison"

BOTH = "both models' answers"


@dataclass(frozen=True)
class Known:
    """A number, and where it is from."""

    value: float
    origin: str | None
    """``before's answers in the store``, ``an earlier comparison``, …; None if the number is assumed."""


@dataclass(frozen=True)
class PairKnown:
    """What is known of a pair."""

    rate: Known
    """Share of right answers before."""
    reference_rate: Known
    """That of the reference, or of after if that is what is known; before's otherwise."""
    discordant: Known
    """Share of the answers that only one of before and after has right."""
    independent: bool
    """Whether their answers were not sampled with the same seed."""
    passing: Known
    """Share of the questions asked that pass the protocol."""
    spread: Mapping[str, float]
    """Standard deviation of the questions' differences over before's mean, by metric; NaN where it is not defined."""
    spread_origin: str | None
    """Where the spread is from; None if it is assumed."""
    variance_ratio: Known
    """Variance of a question's share of right answers over that of one answer."""


def what_is_known(
    measurement: Measurement,
    answers: Mapping[Side, KnownAnswers],
    reference: KnownAnswers | None = None,
    earlier: Comparison | None = None,
) -> PairKnown:
    """Return what is known of a pair.

    Args:
        measurement: what is planned.
        answers: the answers of before and after that are there.
        reference: those of the reference.
        earlier: a comparison of this pair on this question set.
    """
    asked = len(measurement.questions)
    before, after = answers.get("before"), answers.get("after")
    if earlier is not None and earlier.accuracy.asked < min(asked, ENOUGH_QUESTIONS):
        earlier = None
    assumed = Known(ASSUMED_RATE if earlier is None else earlier.accuracy.before, EARLIER if earlier else None)
    rate = _rate("before", before, asked) or assumed
    independent = any(measurement.recorded.values())
    spread = _earlier_spread(measurement, earlier)
    return PairKnown(
        rate=rate,
        reference_rate=_rate("the reference", reference, asked) or _rate("after", after, asked) or rate,
        discordant=_discordant(before, after, earlier, asked) or assumed_discordant(rate.value, independent),
        independent=independent,
        passing=_passing(measurement, before, after, earlier) or Known(rate.value, None),
        variance_ratio=_variance_ratio(measurement, after or before, asked) or Known(1.0, None),
        spread=spread or TYPICAL_SPREAD,
        spread_origin=EARLIER if spread else None,
    )


def assumed_discordant(rate: float, independent: bool) -> Known:
    """Return the share of discordant answers that is assumed of two models with this rate of right answers."""
    return Known(discordant_if_independent(rate, rate) * (1 if independent else TYPICAL_DISCORDANT), None)


def relative_spread(effect: Effect) -> float:
    """Return the standard deviation of the questions' differences over before's mean; NaN if it is not defined."""
    before, after = where_defined(np.asarray(effect.before_values), np.asarray(effect.after_values))
    difference = after - before
    if difference.size < 2 or not effect.before:
        return float("nan")
    return float(difference.std(ddof=1) / abs(effect.before))


def _rate(who: str, answers: KnownAnswers | None, asked: int) -> Known | None:
    """Return a model's share of right answers; None if too few questions are answered to tell it."""
    if answers is None or _questions(answers.grades) < min(asked, ENOUGH_QUESTIONS):
        return None
    grades = answers.grades.values()
    # Prompts are answered in the order of their length.
    which = "" if answers.complete else ", those to the longest prompts"
    return Known(sum(grades) / len(grades), f"{who}'s {answers.origin}{which}")


def _discordant(
    before: KnownAnswers | None, after: KnownAnswers | None, earlier: Comparison | None, asked: int
) -> Known | None:
    if before and after:
        ours, theirs = before.grades, after.grades
        both = [key for key in ours if key in theirs]
        if _questions(both) >= min(asked, ENOUGH_QUESTIONS):
            share = sum(ours[key] != theirs[key] for key in both) / len(both)
            return Known(share, BOTH)
    # A comparison counts questions that changed, which are discordant answers only where there is one to a question.
    if earlier is not None and earlier.n == 1:
        return Known((earlier.accuracy.lost + earlier.accuracy.gained) / earlier.accuracy.asked, EARLIER)
    return None


def _passing(
    measurement: Measurement, before: KnownAnswers | None, after: KnownAnswers | None, earlier: Comparison | None
) -> Known | None:
    """Return the share of the questions that pass the protocol: exactly, if all answers are there."""
    settings, asked = measurement.settings, len(measurement.questions)
    if before and after and before.complete and after.complete:
        sides = (
            Answers(side, measurement.questions.name, measurement.questions.split, settings.sampling, answers.items)
            for side, answers in (("before", before), ("after", after))
        )
        funnel = Funnel.of(*sides)
        funnel.keep(ANSWER_STAGES)
        funnel.keep(length_stages(reference_length(funnel.pairs), settings.balance))
        return Known(len(funnel.left) / asked, BOTH)
    if earlier is not None and (earlier.balance, earlier.n) == (settings.balance, settings.sampling.n):
        left = [count for stage, count in earlier.funnel.items() if stage != "sampled"]
        return Known(left[-1] / left[0], EARLIER)
    return None


def _variance_ratio(measurement: Measurement, answers: KnownAnswers | None, asked: int) -> Known | None:
    """Return how much less a question's share of right answers varies than one answer; 1 with one answer each."""
    if measurement.settings.sampling.n == 1:
        return Known(1.0, "one answer to each question")
    if answers is None or not answers.complete or asked < ENOUGH_QUESTIONS:
        return None
    by_question: dict[str, list[bool]] = {}
    for (question, _), right in answers.grades.items():
        by_question.setdefault(question, []).append(right)
    shares = np.array([np.mean(each) for each in by_question.values()])
    one_answer = float(shares.mean() * (1 - shares.mean()))
    return Known(min(float(shares.var()) / one_answer, 1.0), answers.origin) if one_answer else None


def _earlier_spread(measurement: Measurement, earlier: Comparison | None) -> Mapping[str, float] | None:
    """Return the spread on an earlier comparison that scored as this run does; None without one."""
    settings = measurement.settings
    wanted = (settings.alpha, settings.score_on, settings.granularity)
    if earlier is None or earlier.k < ENOUGH_FOR_SPREAD:
        return None
    if (earlier.alpha, earlier.score_on, earlier.granularity) != wanted:
        return None
    return {metric: relative_spread(earlier.effects[metric]) for metric in GATE_METRICS}


def _questions(keys: Iterable[tuple[str, int]]) -> int:
    return len({question for question, _ in keys})
