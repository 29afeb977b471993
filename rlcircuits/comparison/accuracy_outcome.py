"""Whether what is asserted of accuracy holds, does not hold, or cannot be told: the rule for accuracy.

- ``rose``: holds if the exact one-sided sign test for a rise is significant at the rule's level, and the interval of
  the difference does not reach below ``minimum``. Does not hold if accuracy fell significantly, or if the interval lies
  below ``minimum``: a rise that would matter is ruled out.
- ``not-fallen``: does not hold if the exact test for a fall is significant; else holds. It is never inconclusive.
- ``not-inferior``: holds if the interval lies above −margin, does not hold if it lies below.
- ``equivalent``: holds if the interval lies within ±margin (two one-sided tests), does not hold if it lies outside.

Otherwise the outcome is inconclusive. The interval is the 90 % score interval of the mean difference over the
questions (:mod:`rlcircuits.comparison.paired_interval`), so that each of its ends is a one-sided test at level .05.

A **claim** is what the release says of after's accuracy: a number, or another checkpoint's accuracy on the same
questions. It is judged by the rule ``not-inferior``, on the interval of after minus the claim.

The sign test counts questions, whatever the size of the change. With several answers to a question it can be
significant in one direction while the mean moved in the other. Accuracy rose or fell only where both did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlcircuits.comparison.effects import ACCURACY_CONFIDENCE
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import AccuracyRule
from rlcircuits.comparison.settling import questions_for_interval, questions_for_level
from rlcircuits.comparison.significance import ACCURACY_LEVEL

if TYPE_CHECKING:
    from rlcircuits.comparison.effects import AccuracyClaim, AccuracyEffect


@dataclass(frozen=True)
class AccuracyOutcome:
    """The outcome of what is asserted of accuracy."""

    outcome: Outcome
    words: str
    """``rose``, ``fell``, ``did not rise``, ``no clear rise``, ``not inferior``, ``below the claim``, …"""
    p: float
    """P-value of the exact sign test for a change to the side of `p_of`; of a claim, that after is below it."""
    settled_by: int | None = None
    """For an inconclusive outcome: the number of questions asked that would settle it at 90 % power, if the true
    difference is the one seen; None if no number would."""
    p_of: Literal["rise", "fall"] = "fall"
    """``rise`` for the rule ``rose``, unless accuracy fell."""


def judge_accuracy(effect: AccuracyEffect, rule: AccuracyRule) -> AccuracyOutcome:
    """Judge the accuracies of a pair by the rule of this module."""
    fell = effect.p_fall < (ACCURACY_LEVEL if rule.rule == "rose" else rule.level) and effect.after < effect.before
    if rule.rule == "not-fallen":
        words = "fell" if fell else "no clear fall" if effect.after < effect.before else "did not fall"
        return AccuracyOutcome("does not hold" if fell else "holds", words, effect.p_fall)
    if rule.rule == "rose":
        return _judge_rise(effect, rule, fell)
    low, high = effect.interval or (float("-inf"), float("inf"))
    outcome, words = _within(low, high, rule.margin, either_way=rule.rule == "equivalent")
    settled = None
    if outcome == "inconclusive":
        settled = _settled(effect, (-rule.margin, rule.margin) if rule.rule == "equivalent" else (-rule.margin,))
    return AccuracyOutcome(outcome, words, effect.p_fall, settled)


def judge_claim(claim: AccuracyClaim) -> AccuracyOutcome:
    """Judge a claim about after's accuracy: it must not be inferior to the claim by the margin."""
    low, high = claim.interval
    outcome, words = _within(low, high, claim.margin, either_way=False)
    if outcome == "does not hold":
        words = "below the claim"  # nothing fell: there is no accuracy before
    settled = None
    if outcome == "inconclusive":
        difference = claim.found - claim.wanted
        settled = questions_for_interval(difference, claim.interval, claim.asked, (-claim.margin,), ACCURACY_CONFIDENCE)
    return AccuracyOutcome(outcome, words, claim.p, settled)


def _judge_rise(effect: AccuracyEffect, rule: AccuracyRule, fell: bool) -> AccuracyOutcome:
    if fell:
        return AccuracyOutcome("does not hold", "fell", effect.p_fall)
    difference = effect.after - effect.before
    low, high = effect.interval or (difference, math.inf)  # a file without an interval
    if high < rule.minimum:
        return AccuracyOutcome("does not hold", "did not rise", effect.p_rise, p_of="rise")
    significant = effect.p_rise < rule.level
    if significant and low >= rule.minimum and low > 0:
        return AccuracyOutcome("holds", "rose", effect.p_rise, p_of="rise")
    # A smaller rise than the minimum would be ruled out.
    needed = [_settled(effect, (rule.minimum,))]
    if difference > rule.minimum and not significant:
        needed.append(questions_for_level(effect.p_rise, effect.asked, rule.level))
    settled = None if None in needed else max(each for each in needed if each is not None)
    words = "rose, perhaps by less than the minimum" if significant and difference > 0 else "no clear rise"
    return AccuracyOutcome("inconclusive", words, effect.p_rise, settled, "rise")


def _within(low: float, high: float, margin: float, *, either_way: bool) -> tuple[Outcome, str]:
    """Return the outcome of an interval against the margin, and its words."""
    if high < -margin:
        return "does not hold", "fell by more than the margin"
    if either_way and low > margin:
        return "does not hold", "rose by more than the margin"
    if low > -margin and (not either_way or high < margin):
        return "holds", "equivalent" if either_way else "not inferior"
    return "inconclusive", "not clearly equivalent" if either_way else "not clearly not inferior"


def _settled(effect: AccuracyEffect, boundaries: tuple[float, ...]) -> int | None:
    if effect.interval is None:
        return None
    difference = effect.after - effect.before
    return questions_for_interval(difference, effect.interval, effect.asked, boundaries, ACCURACY_CONFIDENCE)
