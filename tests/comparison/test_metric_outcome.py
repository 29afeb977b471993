"""The rule for metrics: three outcomes, compared with an independent definition and held to its symmetries."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from helpers.made_up_effects import beyond_of, draws_of, effect_of, effects, groups_of, mirrored, noise_draws, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.comparison.comparison import BeyondSupervised
from rlcircuits.comparison.effects import Effect, paired_effect
from rlcircuits.comparison.metric_outcome import judge_direction, judge_metric
from rlcircuits.comparison.profiles import MetricRule

minima = st.sampled_from([0.0, 0.01, 0.05, 0.5, 1.0])
rules = st.builds(MetricRule, expected=st.just("up"), minimum=minima, level=st.sampled_from([0.001, 0.01, 0.05]))
errors = st.floats(0.01, 2.0)
RISE = MetricRule(expected="up", minimum=0.05)
OPPOSITE = {"holds": "does not hold", "does not hold": "holds"}


def outcome_of(effect: Effect, rule: MetricRule, noise: list[float | None]) -> str:
    return judge_metric(effect, rule, draws_of(noise)).outcome


def by_definition(effect: Effect, rule: MetricRule, noise: list[float | None]) -> str:
    """Return the outcome of an asserted rise, from the sets of values that the interval may hold."""
    low, high = effect.interval
    unmeasured = any(each is None or math.isnan(each) for each in noise)
    if high < rule.minimum * abs(effect.before):
        return "does not hold"
    if noise and not unmeasured and all(high < each for each in noise if each is not None):
        return "does not hold"
    beyond_noise = not unmeasured and all(low > each and low > 1.25 * each for each in noise if each is not None)
    beyond_minimum = low > 0 and low >= rule.minimum * abs(effect.before)
    return "holds" if effect.p_up < rule.level and beyond_minimum and beyond_noise else "inconclusive"


@given(effects(), rules, noise_draws)
@settings(max_examples=500)
def test_the_outcome_is_that_of_the_definition(effect: Effect, rule: MetricRule, noise: list[float | None]) -> None:
    assert outcome_of(effect, rule, noise) == by_definition(effect, rule, noise)


@given(effects(), rules, noise_draws)
def test_what_holds_is_never_among_what_speaks_against_it(
    effect: Effect, rule: MetricRule, noise: list[float | None]
) -> None:
    low, _ = effect.interval
    found = judge_metric(effect, rule, draws_of(noise))
    if found.outcome == "holds":
        assert low > 0
        assert low >= rule.minimum * abs(effect.before)
        assert all(each is not None and low > max(each, 1.25 * each) for each in noise)
        assert found.settled_by is None
    # Where the whole interval is where the effect would have to be, there is no evidence against it.
    if low > max([rule.minimum * abs(effect.before), *(each for each in noise if each is not None)]):
        assert found.outcome != "does not hold"


@given(effects(), rules, noise_draws)
def test_down_is_up_with_all_signs_turned_round(effect: Effect, rule: MetricRule, noise: list[float | None]) -> None:
    down = replace(rule, expected="down")
    turned = [None if each is None else -each for each in noise]
    assert judge_metric(mirrored(effect), down, draws_of(turned)) == judge_metric(effect, rule, draws_of(noise))


@given(effects(), rules, noise_draws, st.randoms())
def test_the_order_of_the_draws_does_not_matter(
    effect: Effect, rule: MetricRule, noise: list[float | None], order: Random
) -> None:
    shuffled = list(noise)
    order.shuffle(shuffled)
    assert judge_metric(effect, rule, draws_of(shuffled)) == judge_metric(effect, rule, draws_of(noise))


@given(effects(), rules, noise_draws, st.none() | st.just(math.nan) | steps)
def test_one_more_draw_never_makes_an_effect_hold(
    effect: Effect, rule: MetricRule, noise: list[float | None], another: float | None
) -> None:
    if outcome_of(effect, rule, noise) != "holds":
        assert outcome_of(effect, rule, [*noise, another]) != "holds"


@given(effects(), rules, noise_draws, st.integers(-20, 20))
def test_the_metrics_unit_does_not_matter(
    effect: Effect, rule: MetricRule, noise: list[float | None], power: int
) -> None:
    scale = 2.0**power
    low, high = effect.interval
    scaled = replace(
        effect, before=scale * effect.before, after=scale * effect.after, interval=(scale * low, scale * high)
    )
    found, wanted = (
        judge_metric(each, rule, draws_of(draws))
        for each, draws in ((scaled, [None if each is None else scale * each for each in noise]), (effect, noise))
    )
    assert (found.outcome, found.why) == (wanted.outcome, wanted.why)


@given(steps, errors, rules, st.lists(steps, max_size=3), st.floats(1.0, 1000.0))
@settings(max_examples=300)
def test_more_evidence_never_leads_to_the_opposite(
    mean: float, error: float, rule: MetricRule, noise: list[float], more: float
) -> None:
    few = outcome_of(effect_of(mean, error), rule, list(noise))
    many = outcome_of(effect_of(mean, error / math.sqrt(more), questions=round(100 * more)), rule, list(noise))
    assert many != OPPOSITE.get(few)


def test_more_evidence_of_an_effect_below_the_minimum_rules_it_out() -> None:
    found = [outcome_of(effect_of(0.04, 0.016 / factor), RISE, []) for factor in (1, 2, 4)]
    assert found == ["inconclusive", "inconclusive", "does not hold"]


@given(effects(), rules, noise_draws)
def test_before_and_after_swapped_never_hold_both(effect: Effect, rule: MetricRule, noise: list[float | None]) -> None:
    swapped = replace(mirrored(effect), before=effect.after, after=effect.before)
    if outcome_of(effect, rule, noise) == "holds":
        assert outcome_of(swapped, rule, noise) == "does not hold"


@given(steps, errors, rules, st.lists(steps, max_size=3))
@settings(max_examples=300)
def test_the_number_of_questions_that_would_settle_it_does(
    mean: float, error: float, rule: MetricRule, noise: list[float]
) -> None:
    draws = draws_of(list(noise))
    found = judge_metric(effect_of(mean, error), rule, draws)
    if found.outcome != "inconclusive":
        assert found.settled_by is None
        return
    more = 10**6 if found.settled_by is None else found.settled_by / 100
    later = judge_metric(effect_of(mean, error / math.sqrt(more), questions=round(100 * more)), rule, draws)
    if found.settled_by is None:
        assert later.outcome == "inconclusive"
    else:
        assert found.settled_by > 100
        assert later.outcome != "inconclusive"


def test_a_significant_mean_needs_a_significant_rank_test_too() -> None:
    found = judge_metric(effect_of(0.3, 0.05, p_up=0.02), RISE)
    assert (found.outcome, found.why) == ("inconclusive", "no clear change")
    assert found.settled_by == pytest.approx(100 * ((2.326 + 1.282) / 2.054) ** 2, rel=0.01)
    # Where the ranks speak for the other direction, no number of questions is known to help.
    assert judge_metric(effect_of(0.3, 0.05, p_up=0.6), RISE).settled_by is None


@pytest.mark.parametrize(
    ("effect", "noise", "outcome", "why"),
    [
        (effect_of(0.2, 0.02), [0.01], "holds", "as expected"),
        (effect_of(0.01, 0.01), [], "does not hold", "negligible"),
        (effect_of(-0.2, 0.02), [], "does not hold", "the other way"),
        (effect_of(0.2, 0.02), [0.3, 0.4], "does not hold", "within noise"),
        (effect_of(0.2, 0.02), [0.0, 0.4], "inconclusive", "not beyond noise"),
        (effect_of(0.2, 0.02), [0.0, None], "inconclusive", "not beyond noise"),
        (effect_of(0.2, 0.02), [None, 0.4], "inconclusive", "not beyond noise"),
        (effect_of(0.2, 0.02), [math.nan], "inconclusive", "not beyond noise"),
        (effect_of(0.05, 0.05), [], "inconclusive", "no clear change"),
        (effect_of(0.06, 0.02), [], "inconclusive", "may be negligible"),
        # Every question rose by exactly the minimum, which is not less than the minimum.
        (effect_of(0.05, 0.0, p_up=1e-9), [], "holds", "as expected"),
        # Nothing changed at all: less than the minimum.
        (effect_of(0.0, 0.0), [], "does not hold", "negligible"),
    ],
)
def test_one_of_each(effect: Effect, noise: list[float | None], outcome: str, why: str) -> None:
    found = judge_metric(effect, RISE, draws_of(noise))
    assert (found.outcome, found.why) == (outcome, why)


@pytest.mark.parametrize("expected", ["up", "down"])
@pytest.mark.parametrize("questions", [100, 10_000_000])
def test_an_effect_little_above_the_noise_holds_on_no_number_of_questions(expected: str, questions: int) -> None:
    sign, rule = 1 if expected == "up" else -1, replace(RISE, expected=expected)
    noise = draws_of([sign * each for each in (0.30, 0.34, 0.32)])
    for mean in (0.36, 0.42):
        effect = effect_of(mean, 0.2 / math.sqrt(questions), questions=questions)
        found = judge_metric(effect if expected == "up" else mirrored(effect), rule, noise)
        assert (found.outcome, found.settled_by) == ("inconclusive", None)
    beyond = effect_of(0.48, 0.1 / math.sqrt(questions), questions=questions)
    assert judge_metric(beyond if expected == "up" else mirrored(beyond), rule, noise).outcome == "holds"


def test_a_mean_of_0_before_leaves_no_minimum() -> None:
    rise = judge_metric(effect_of(0.2, 0.02, before=0.0), RISE)
    assert rise.outcome == "holds"
    small = judge_metric(effect_of(0.01, 0.01, before=0.0), RISE)
    assert small.outcome == "inconclusive"
    assert small.settled_by is not None
    assert judge_metric(effect_of(-0.2, 0.02, before=0.0), RISE).outcome == "does not hold"


def test_a_minimum_of_0_needs_evidence_for_the_other_direction() -> None:
    rule = MetricRule(expected="up")
    assert judge_metric(effect_of(0.0, 0.0), rule).outcome == "inconclusive"
    assert judge_metric(effect_of(-0.01, 0.01), rule).outcome == "inconclusive"
    found = judge_metric(effect_of(-0.01, 0.001), rule)
    assert (found.outcome, found.why) == ("does not hold", "the other way")


@pytest.mark.parametrize("expected", ["up", "down", "same"])
def test_a_metric_that_is_defined_on_no_question_is_inconclusive(expected: str) -> None:
    rule = MetricRule(expected=expected, bound=0.1 if expected == "same" else None)  # type: ignore[arg-type]
    effect = paired_effect("intensity", np.full(30, np.nan), np.ones(30))
    found = judge_metric(effect, rule, draws_of([0.0, math.nan, None]))
    assert (found.outcome, found.why, found.settled_by) == ("inconclusive", "not measured", None)


def test_real_effects_in_any_unit_and_swapped() -> None:
    rng = np.random.default_rng(0)
    before = rng.gamma(4.0, size=60)
    after = before * rng.uniform(1.0, 1.4, 60)
    for scale in (1.0, 3.0, 1e-9, 1e9):
        effect = paired_effect("intensity", scale * before, scale * after)
        assert judge_metric(effect, RISE, draws_of([0.02 * scale])).outcome == "holds"
        swapped = paired_effect("intensity", scale * after, scale * before)
        assert judge_metric(swapped, RISE, draws_of([0.02 * scale])).outcome == "does not hold"


bounds = st.sampled_from([0.01, 0.03, 0.1, 0.5, 1.0, 3.0])


def same(bound: float) -> MetricRule:
    return MetricRule(expected="same", bound=bound)


@given(effects(), bounds)
@settings(max_examples=300)
def test_the_same_is_within_the_bound(effect: Effect, bound: float) -> None:
    low, high = effect.interval
    limit = bound * abs(effect.before)
    inside, outside = -limit <= low <= high <= limit, low > limit or high < -limit
    wanted = "holds" if inside else "does not hold" if outside else "inconclusive"
    assert judge_metric(effect, same(bound)).outcome == wanted
    assert judge_metric(mirrored(effect), same(bound)) == judge_metric(effect, same(bound))


@given(effects(), bounds, bounds)
def test_a_larger_bound_never_takes_sameness_away(effect: Effect, one: float, other: float) -> None:
    order = ("does not hold", "inconclusive", "holds")
    narrow, wide = (judge_metric(effect, same(bound)).outcome for bound in sorted((one, other)))
    assert order.index(narrow) <= order.index(wide)


def test_nothing_changed_is_the_same_even_where_before_is_0() -> None:
    for before in (0.0, 2.0):
        assert judge_metric(effect_of(0.0, 0.0, before=before), same(0.1)).outcome == "holds"
    assert judge_metric(effect_of(1.0, 0.1, before=0.0), same(0.1)).outcome == "does not hold"


def test_noise_on_one_group_can_blind_the_control() -> None:
    effect, within = effect_of(0.2, 0.02), draws_of([0.5, 0.6])
    quiet: dict[str, float | None] = {"embeddings": 0.01, "norms": 0.02, "attention": -0.5, "MLP": 0.01}
    assert judge_metric(effect, RISE, within).outcome == "does not hold"
    assert judge_metric(effect, RISE, within, groups_of(quiet)).outcome == "does not hold"
    for loud in (0.5, None, math.nan):  # one that could not be measured may move it as far
        found = judge_metric(effect, RISE, within, groups_of({**quiet, "norms": loud}))
        assert (found.outcome, found.blinded_by) == ("inconclusive", ("norms",))
    # Two groups each, or the others together: the control is not blinded by one.
    for more in ({"norms": 0.5, "MLP": 0.4}, {"norms": 0.5, "MLP": 0.1, "embeddings": 0.1}):
        assert judge_metric(effect, RISE, within, groups_of({**quiet, **more})).outcome == "does not hold"


@given(effects(), rules, noise_draws, st.lists(st.none() | steps, min_size=5, max_size=5))
def test_group_controls_never_make_an_effect_hold_or_fail(
    effect: Effect, rule: MetricRule, noise: list[float | None], shifts: list[float | None]
) -> None:
    names = ("embeddings", "norms", "attention", "MLP", "unembedding")
    groups = groups_of(dict(zip(names, shifts, strict=True)))
    without, found = judge_metric(effect, rule, draws_of(noise)), judge_metric(effect, rule, draws_of(noise), groups)
    if found.outcome != without.outcome:
        assert (found.outcome, without.why) == ("inconclusive", "within noise")
        assert len(found.blinded_by) == 1


@given(effects(), rules, noise_draws)
def test_a_noise_draw_is_judged_by_the_same_rule(effect: Effect, rule: MetricRule, noise: list[float | None]) -> None:
    assert judge_direction(effect, "up", rule, noise) == judge_metric(effect, rule, draws_of(noise))


beyonds = st.builds(beyond_of, steps, errors)


@given(effects(), rules, noise_draws, beyonds)
def test_an_effect_counts_only_beyond_supervised_training(
    effect: Effect, rule: MetricRule, noise: list[float | None], beyond: BeyondSupervised
) -> None:
    low, high = beyond.interval
    without, found = (judge_metric(effect, rule, draws_of(noise), (), each) for each in (None, beyond))
    if without.outcome == "does not hold" or low > 0:
        assert found == without
    elif high < 0:
        assert (found.outcome, found.why) == ("does not hold", "within supervised training")
    else:
        assert found.outcome == "inconclusive"
        assert found.why == ("not beyond supervised training" if without.outcome == "holds" else without.why)
    turned = replace(beyond, difference=-beyond.difference, interval=(-high, -low))
    down = [None if each is None else -each for each in noise]
    assert judge_metric(mirrored(effect), replace(rule, expected="down"), draws_of(down), (), turned) == found


@given(effects(), beyonds)
def test_supervised_training_has_no_part_in_being_the_same(effect: Effect, beyond: BeyondSupervised) -> None:
    rule = MetricRule(expected="same", bound=0.1)
    assert judge_metric(effect, rule, beyond=beyond) == judge_metric(effect, rule)


@pytest.mark.parametrize("mean", [0.03, -0.03])
def test_the_number_of_questions_that_would_tell_an_effect_from_supervised_training_does(mean: float) -> None:
    effect = effect_of(0.3, 0.01)
    found = judge_metric(effect, RISE, beyond=beyond_of(mean, 0.03))
    assert (found.outcome, found.why) == ("inconclusive", "not beyond supervised training")
    assert found.settled_by is not None
    more = found.settled_by / effect.questions
    assert more == pytest.approx((1.96 + 1.282) ** 2, rel=0.02)
    later = judge_metric(effect, RISE, beyond=beyond_of(mean, 0.03 / math.sqrt(more), round(80 * more)))
    assert later.outcome == ("holds" if mean > 0 else "does not hold")


def test_a_difference_that_is_defined_nowhere_is_inconclusive() -> None:
    nothing = BeyondSupervised(math.nan, (math.nan, math.nan), 0)
    found = judge_metric(effect_of(0.3, 0.01), RISE, beyond=nothing)
    assert (found.outcome, found.settled_by) == ("inconclusive", None)
