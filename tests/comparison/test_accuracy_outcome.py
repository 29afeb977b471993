"""The rules for accuracy and for claims about it, compared with a brute-force test and Tango's closed interval."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
from helpers.synthetic_comparisons import answers_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.accuracy_outcome import judge_accuracy, judge_claim
from rlcircuits.comparison.effects import (
    AccuracyEffect,
    compare_accuracy,
    compare_with_claim,
    compare_with_reference,
)
from rlcircuits.comparison.profiles import AccuracyRule

ROSE = AccuracyRule("rose", minimum=0.01, level=0.01)
NOT_FALLEN = AccuracyRule("not-fallen")
NOT_INFERIOR = AccuracyRule("not-inferior", margin=0.05)
EQUIVALENT = AccuracyRule("equivalent", margin=0.1)


def answered(lost: int, gained: int, right: int, wrong: int) -> tuple[Answers, Answers]:
    before = [True] * lost + [False] * gained + [True] * right + [False] * wrong
    after = [False] * lost + [True] * gained + [True] * right + [False] * wrong
    return answers_of(before, model="before"), answers_of(after, model="after")


@cache
def effect_of(lost: int, gained: int, right: int, wrong: int) -> AccuracyEffect:
    return compare_accuracy(*answered(lost, gained, right, wrong))


def several(before: list[int], after: list[int], n: int) -> AccuracyEffect:
    """Return the effect with `n` answers to each question, of which these numbers are right."""
    sides = []
    for counts in (before, after):
        answers = answers_of([place < right for right in counts for place in range(n)])
        items = tuple(
            replace(item, question_id=f"q{place // n}", sample=place % n) for place, item in enumerate(answers.items)
        )
        sides.append(replace(answers, items=items))
    return compare_accuracy(*sides)


counts = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 150), st.integers(0, 20)).filter(any)


def sign_p(more: int, fewer: int) -> float:
    """Return the exact one-sided p by counting the equally likely outcomes."""
    changed = more + fewer
    return sum(math.comb(changed, each) for each in range(more, changed + 1)) / 2**changed


def tango_end(lost: int, gained: int, questions: int, z: float) -> float:
    """Return the end of Tango's interval at which his closed statistic is `z`."""

    def missing(difference: float) -> float:
        b = -gained - lost + (2 * questions - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        restricted = (math.sqrt(max(b * b - 8 * questions * c, 0)) - b) / (4 * questions)
        variance = questions * (2 * restricted + difference * (1 - difference))
        if variance <= 0:  # nothing changed, and no change is the hypothesis
            return -z
        return (gained - lost - questions * difference) / math.sqrt(variance) - z

    ends = (-1 + 1e-9, 1 - 1e-9)
    if missing(ends[0]) * missing(ends[1]) > 0:  # no difference is rejected on this side
        return -math.copysign(1, z)
    return float(optimize.bisect(missing, *ends, xtol=1e-10))


def brute_force(rule: AccuracyRule, lost: int, gained: int, questions: int) -> str:
    z = float(stats.norm.isf(0.05))
    low, high = (tango_end(lost, gained, questions, each) for each in (z, -z))
    ends = (abs(end - limit) for end in (low, high) for limit in (rule.margin, -rule.margin, rule.minimum))
    assume(min(ends) > 1e-6)
    if rule.rule == "not-fallen":
        return "does not hold" if sign_p(lost, gained) < rule.level else "holds"
    if rule.rule == "rose":
        if sign_p(lost, gained) < 0.05 or high < rule.minimum:
            return "does not hold"
        return "holds" if sign_p(gained, lost) < rule.level and low >= rule.minimum else "inconclusive"
    if rule.rule == "not-inferior":
        return "holds" if low > -rule.margin else "does not hold" if high < -rule.margin else "inconclusive"
    if high < -rule.margin or low > rule.margin:
        return "does not hold"
    return "holds" if -rule.margin < low and high < rule.margin else "inconclusive"


@pytest.mark.parametrize("rule", [ROSE, NOT_FALLEN, NOT_INFERIOR, EQUIVALENT], ids=lambda rule: rule.rule)
@given(counts=counts)
@settings(max_examples=60, deadline=None)
def test_the_outcome_is_that_of_brute_force(rule: AccuracyRule, counts: tuple[int, int, int, int]) -> None:
    lost, gained, *_ = counts
    effect = effect_of(*counts)
    found = judge_accuracy(effect, rule)
    assert found.outcome == brute_force(rule, lost, gained, sum(counts))
    assert found.p == (effect.p_rise if rule is ROSE and found.words != "fell" else effect.p_fall)
    assert (found.p_of == "rise") == (rule is ROSE and found.words != "fell")
    assert effect.p_fall == pytest.approx(sign_p(lost, gained))
    assert effect.p_rise == pytest.approx(sign_p(gained, lost))


@given(counts=counts)
@settings(max_examples=40, deadline=None)
def test_before_and_after_swapped(counts: tuple[int, int, int, int]) -> None:
    lost, gained, right, wrong = counts
    one, other = effect_of(*counts), effect_of(gained, lost, right, wrong)
    rose = judge_accuracy(one, ROSE).outcome
    if rose == "holds":
        assert judge_accuracy(other, ROSE).outcome == "does not hold"
        assert judge_accuracy(other, NOT_FALLEN).outcome == "does not hold"
        assert judge_accuracy(one, NOT_FALLEN).outcome == "holds"
    found = [judge_accuracy(each, EQUIVALENT).outcome for each in (one, other)]
    assert found[0] == found[1]


@given(counts=counts, margins=st.tuples(st.floats(0.001, 0.5), st.floats(0.001, 0.5)))
@settings(max_examples=40, deadline=None)
def test_a_larger_margin_never_takes_away(counts: tuple[int, int, int, int], margins: tuple[float, float]) -> None:
    order = ("does not hold", "inconclusive", "holds")
    effect = effect_of(*counts)
    for rule in (NOT_INFERIOR, EQUIVALENT):
        found = [judge_accuracy(effect, replace(rule, margin=margin)).outcome for margin in sorted(margins)]
        assert order.index(found[0]) <= order.index(found[1])
    # What is equivalent is not inferior.
    if judge_accuracy(effect, replace(EQUIVALENT, margin=margins[0])).outcome == "holds":
        assert judge_accuracy(effect, replace(NOT_INFERIOR, margin=margins[0])).outcome == "holds"


@pytest.mark.parametrize(
    ("rule", "counts", "outcome", "words"),
    [
        (ROSE, (0, 10, 190, 0), "holds", "rose"),
        (ROSE, (10, 0, 190, 0), "does not hold", "fell"),
        (ROSE, (1, 1, 998, 0), "does not hold", "did not rise"),
        (ROSE, (1, 3, 96, 0), "inconclusive", "no clear rise"),
        (ROSE, (0, 7, 393, 0), "inconclusive", "rose, perhaps by less than the minimum"),
        (ROSE, (2, 20, 9978, 0), "does not hold", "did not rise"),
        (NOT_FALLEN, (5, 0, 35, 0), "does not hold", "fell"),
        (NOT_FALLEN, (4, 0, 36, 0), "holds", "no clear fall"),
        (NOT_FALLEN, (0, 4, 36, 0), "holds", "did not fall"),
        (NOT_INFERIOR, (0, 0, 200, 0), "holds", "not inferior"),
        (NOT_INFERIOR, (30, 0, 170, 0), "does not hold", "fell by more than the margin"),
        (NOT_INFERIOR, (10, 0, 190, 0), "inconclusive", "not clearly not inferior"),
        (EQUIVALENT, (3, 3, 194, 0), "holds", "equivalent"),
        (EQUIVALENT, (0, 60, 140, 0), "does not hold", "rose by more than the margin"),
        (EQUIVALENT, (60, 0, 140, 0), "does not hold", "fell by more than the margin"),
        (EQUIVALENT, (0, 20, 180, 0), "inconclusive", "not clearly equivalent"),
    ],
)
def test_one_of_each(rule: AccuracyRule, counts: tuple[int, int, int, int], outcome: str, words: str) -> None:
    found = judge_accuracy(effect_of(*counts), rule)
    assert (found.outcome, found.words) == (outcome, words)


def test_many_questions_that_rose_a_little_are_no_rise_of_a_mean_that_fell() -> None:
    # 12 questions gain one of four answers, 5 lose all four.
    effect = several([2] * 12 + [4] * 5, [3] * 12 + [0] * 5, n=4)
    assert effect.after < effect.before
    assert (effect.lost, effect.gained) == (5, 12)
    loose = AccuracyRule("rose", level=0.1)
    assert effect.p_rise < loose.level
    assert judge_accuracy(effect, loose).outcome != "holds"
    mirror = several([3] * 12 + [0] * 5, [2] * 12 + [4] * 5, n=4)
    assert mirror.p_fall < 0.1
    assert mirror.after > mirror.before
    assert judge_accuracy(mirror, AccuracyRule("not-fallen", level=0.1)).outcome == "holds"


@pytest.mark.parametrize(("counts", "rule"), [((1, 3, 96, 0), ROSE), ((5, 0, 195, 0), NOT_INFERIOR)])
def test_the_number_of_questions_that_would_settle_it_does(
    counts: tuple[int, int, int, int], rule: AccuracyRule
) -> None:
    found = judge_accuracy(effect_of(*counts), rule)
    assert found.settled_by is not None
    assert found.settled_by > sum(counts)
    times = math.ceil(found.settled_by / sum(counts))
    lost, gained, right, wrong = (times * each for each in counts)
    assert judge_accuracy(effect_of(lost, gained, right, wrong), rule).outcome != "inconclusive"


@pytest.mark.parametrize("rule", [NOT_INFERIOR, EQUIVALENT, ROSE, NOT_FALLEN], ids=lambda rule: rule.rule)
def test_a_file_without_an_interval_is_judged_by_its_test_alone(rule: AccuracyRule) -> None:
    for counts in ((0, 10, 190, 0), (10, 0, 190, 0), (0, 0, 200, 0)):
        effect = effect_of(*counts)
        found = judge_accuracy(replace(effect, interval=None), rule)
        if rule in (NOT_INFERIOR, EQUIVALENT):
            assert found.outcome == "inconclusive"
        else:
            assert found.outcome in (judge_accuracy(effect, rule).outcome, "inconclusive")


def test_a_claimed_number_is_not_to_be_missed_by_the_margin() -> None:
    after = answers_of([True] * 380 + [False] * 20)  # 95 %
    outcomes = {claimed: judge_claim(compare_with_claim(after, claimed, 0.02)).outcome for claimed in (0.9, 0.96, 1.0)}
    assert outcomes == {0.9: "holds", 0.96: "inconclusive", 1.0: "does not hold"}
    claim = compare_with_claim(after, 0.96, 0.02)
    assert (claim.measure, claim.reference, claim.wanted, claim.found) == ("claimed-accuracy", None, 0.96, 0.95)
    assert claim.interval[0] < claim.found - claim.wanted < claim.interval[1]


@given(
    right=st.integers(0, 200), claims=st.tuples(st.floats(0, 1), st.floats(0, 1)), margin=st.sampled_from([0.0, 0.02])
)
@settings(max_examples=40, deadline=None)
def test_a_higher_claim_is_never_easier(right: int, claims: tuple[float, float], margin: float) -> None:
    after = answers_of([True] * right + [False] * (200 - right))
    order = ("does not hold", "inconclusive", "holds")
    modest, bold = (judge_claim(compare_with_claim(after, claimed, margin)) for claimed in sorted(claims))
    assert order.index(bold.outcome) <= order.index(modest.outcome)
    assert bold.p <= modest.p + 1e-9


@given(counts=counts, margin=st.floats(0.001, 0.2))
@settings(max_examples=40, deadline=None)
def test_a_reference_is_judged_as_before_is_by_the_same_rule(counts: tuple[int, int, int, int], margin: float) -> None:
    reference, after = answered(*counts)
    claim = compare_with_reference(after, reference, margin)
    assert claim.reference == "before"
    wanted = judge_accuracy(effect_of(*counts), replace(NOT_INFERIOR, margin=margin))
    assert judge_claim(claim).outcome == wanted.outcome
    says = {"fell by more than the margin": "below the claim"}
    assert judge_claim(claim).words == says.get(wanted.words, wanted.words)


def test_a_reference_that_answered_other_questions_is_refused() -> None:
    after = answers_of([True] * 5)
    other = replace(after, items=tuple(replace(item, question_id=f"x{item.question_id}") for item in after.items))
    with pytest.raises(RLCircuitsError, match="after and the reference answered no question in common"):
        compare_with_reference(after, other, 0.02)
