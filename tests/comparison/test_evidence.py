"""The evidence against a pair agrees with the outcome it is the evidence for, and a release is judged by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.made_up_effects import beyond_of, draws_of, effect_of, groups_of, mirrored, shift_of
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.comparison.comparison import BeyondSupervised, Comparison, SupervisedControl
from rlcircuits.comparison.effects import AccuracyClaim, AccuracyEffect, Effect
from rlcircuits.comparison.evidence import evidence_against, judge_comparisons
from rlcircuits.comparison.metric_outcome import judge_comparison_metric
from rlcircuits.comparison.profiles import AccuracyRule, MetricRule, Profile, profile_named
from rlcircuits.comparison.verdict import judge, reads_as_online_rl

UP = made_up_comparison()
STEPS = st.integers(-40, 40).map(lambda tenths: tenths / 10)
ERRORS = st.sampled_from([0.13, 0.31, 0.97])


def judged_by(profile: Profile, effect: Effect, noise: list[float | None]) -> Comparison:
    """Return a comparison with this effect and noise on intensity; noise moves nothing else."""
    draws = tuple(
        replace(draw, shifts={**{metric: shift_of(0.0) for metric in UP.effects}, **draw.shifts})
        if draw.shifts
        else draw
        for draw in draws_of(noise)
    )
    effects = {**UP.effects, effect.metric: effect}
    return replace(UP, effects=effects, rules=profile, profile=profile.name, controls=draws)


def outcome_of(comparison: Comparison) -> str:
    rule = comparison.judged_by.metrics["intensity"]
    return judge_comparison_metric(comparison, "intensity", rule).outcome


def supervised_by(beyond: BeyondSupervised) -> SupervisedControl:
    """Return a control with this difference of differences of intensity, and clear ones of the others."""
    far = {"complexity": beyond_of(9.0, 0.1), "kurtosis": beyond_of(-9.0, 0.1)}
    return SupervisedControl("runs/sft-clean", 0.9, {"intensity": beyond, **far})


def profile_of(rule: MetricRule) -> Profile:
    return Profile(name="made-up", metrics={"intensity": rule})


@given(STEPS, ERRORS, st.sampled_from([0.0, 0.05, 0.55]), st.lists(st.none() | STEPS, max_size=3), st.booleans())
def test_a_metric_fails_where_its_p_is_below_that_of_the_intervals_end(
    mean: float, error: float, minimum: float, noise: list[float | None], up: bool
) -> None:
    effect = effect_of(mean, error)
    rule = MetricRule(expected="up" if up else "down", minimum=minimum)
    comparison = judged_by(profile_of(rule), effect, noise)
    p = evidence_against(comparison)["intensity"]
    assert (outcome_of(comparison) == "does not hold") == (p < 0.025)
    # Without noise, p is that of a normal mean below the minimum.
    if not noise:
        towards = mean if up else -mean
        assert p == pytest.approx(stats.norm.sf((minimum - towards) / error), abs=1e-9)
    turned = judged_by(
        profile_of(replace(rule, expected="down" if up else "up")),
        mirrored(effect),
        [None if each is None else -each for each in noise],
    )
    assert evidence_against(turned)["intensity"] == pytest.approx(p)


@given(STEPS, ERRORS, STEPS, ERRORS)
def test_it_fails_too_where_the_p_of_less_than_supervised_training_is_below_it(
    mean: float, error: float, beyond: float, other_error: float
) -> None:
    comparison = judged_by(profile_of(MetricRule(expected="up")), effect_of(mean, error), [])
    controlled = replace(comparison, supervised=supervised_by(beyond_of(beyond, other_error)))
    p = evidence_against(controlled)["intensity"]
    assert (outcome_of(controlled) == "does not hold") == (p < 0.025)
    less = stats.norm.sf(-beyond / other_error)
    assert p == pytest.approx(min(less, evidence_against(comparison)["intensity"]), abs=1e-9)


@given(STEPS, ERRORS, STEPS, ERRORS)
def test_the_pattern_is_beyond_supervised_training_too(
    mean: float, error: float, beyond: float, other_error: float
) -> None:
    comparison = judged_by(profile_named("not-rl"), effect_of(mean, error, p_up=0.001 if mean > 0 else 0.999), [])
    comparison = replace(comparison, supervised=supervised_by(beyond_of(beyond, other_error)))
    assert reads_as_online_rl(comparison) == (evidence_against(comparison)["not-online-rl"] < 0.025)


def test_a_difference_from_supervised_training_that_is_defined_nowhere_is_no_evidence() -> None:
    nan = float("nan")
    controlled = replace(UP, supervised=supervised_by(BeyondSupervised(nan, (nan, nan), 0)))
    assert evidence_against(controlled)["intensity"] == evidence_against(UP)["intensity"]
    assert evidence_against(replace(controlled, profile="not-rl"))["not-online-rl"] == 1


@given(STEPS, ERRORS, st.sampled_from([0.15, 0.55]))
def test_a_metric_is_not_the_same_where_its_p_is_below_that_of_the_intervals_end(
    mean: float, error: float, bound: float
) -> None:
    comparison = judged_by(profile_of(MetricRule(expected="same", bound=bound)), effect_of(mean, error), [])
    fails = outcome_of(comparison) == "does not hold"
    assert fails == (evidence_against(comparison)["intensity"] < 0.025)


def test_noise_on_one_group_that_blinds_the_control_is_no_evidence() -> None:
    comparison = judged_by(profile_of(MetricRule(expected="up")), effect_of(1.0, 0.1), [9.0, 9.0])
    assert evidence_against(comparison)["intensity"] < 1e-9
    blinded = replace(comparison, group_controls=tuple(groups_of({"norms": 9.0, "MLP": 0.1})))
    assert outcome_of(blinded) == "inconclusive"
    assert evidence_against(blinded)["intensity"] > 0.999


ACCURACY_RULES = st.sampled_from(
    [AccuracyRule("rose", level=0.01), AccuracyRule(), AccuracyRule("not-inferior"), AccuracyRule("equivalent")]
)


@given(ACCURACY_RULES, st.integers(-80, 80), st.sampled_from([0.005, 0.02]), st.sampled_from([0.001, 0.04, 0.3]))
def test_accuracy_fails_where_its_p_is_below_the_level(
    rule: AccuracyRule, thousandths: int, error: float, p_fall: float
) -> None:
    difference = thousandths / 1000
    width = stats.norm.isf(0.05) * error
    interval = (difference - width, difference + width)
    effect = AccuracyEffect(0.5, 0.5 + difference, 400, 20, 20, p_fall, interval)
    comparison = replace(UP, accuracy=effect, rules=Profile(name="made-up", accuracy=rule))
    p = evidence_against(comparison)["accuracy"]
    assert (judge(comparison).accuracy.outcome == "does not hold") == (p < 0.05)


@given(st.integers(-90, 90))
def test_a_claim_fails_where_its_p_is_below_the_level(thousandths: int) -> None:
    found = 0.9 + thousandths / 1000
    claim = AccuracyClaim("claimed-accuracy", None, 0.9, found, 400, 0.02, (found - 0.92, found - 0.88), 0.5)
    comparison = replace(UP, claims=(claim,))
    fails = judge(comparison).claims[0].outcome == "does not hold"
    assert fails == (evidence_against(comparison)["claimed-accuracy"] < 0.05)


@given(STEPS, ERRORS, st.lists(st.none() | STEPS, max_size=2))
def test_the_pattern_is_as_strong_as_its_weakest_metric(mean: float, error: float, noise: list[float | None]) -> None:
    comparison = judged_by(profile_named("not-rl"), effect_of(mean, error, p_up=0.001 if mean > 0 else 0.999), noise)
    assert reads_as_online_rl(comparison) == (evidence_against(comparison)["not-online-rl"] < 0.025)


def test_what_exceeds_the_noise_by_less_than_the_margin_is_no_evidence_of_the_pattern() -> None:
    for mean, shows in ((0.24, False), (0.27, True)):
        comparison = judged_by(profile_named("not-rl"), effect_of(mean, 0.002, p_up=0.001), [0.2])
        assert reads_as_online_rl(comparison) == shows
        assert (evidence_against(comparison)["not-online-rl"] < 0.025) == shows


def test_a_measure_that_was_not_measured_is_no_evidence() -> None:
    nothing = replace(UP.effects["intensity"], questions=0, interval=(float("nan"), float("nan")))
    comparison = replace(UP, effects={**UP.effects, "intensity": nothing})
    assert evidence_against(comparison)["intensity"] == 1
    assert evidence_against(replace(comparison, profile="not-rl"))["not-online-rl"] == 1
    without = replace(UP, accuracy=replace(UP.accuracy, interval=None))
    assert evidence_against(without)["accuracy"] == 1


@pytest.mark.parametrize("algorithm", ["grpo", "sft", "dpo", "same-as"])
@pytest.mark.parametrize("rise", [True, False])
def test_the_evidence_names_every_measure_that_can_fail(algorithm: str, rise: bool) -> None:
    comparison = made_up_comparison(algorithm=algorithm, rise=rise)
    asserted = {measure for measure, finding in judge(comparison).all_findings.items() if finding.outcome is not None}
    assert evidence_against(comparison).keys() == asserted


def test_a_fall_that_is_not_rare_among_several_pairs_leaves_the_release_inconclusive() -> None:
    good, fell = (
        made_up_comparison(name, "dpo", right_after=[True] * (40 - lost) + [False] * lost)
        for name, lost in (("good", 0), ("fell", 5))
    )
    assert judge(fell).outcome == "does not hold"  # p = 1/32
    assert judge_comparisons([fell]).outcome == "does not hold"
    assert judge_comparisons([good, fell]).outcome == "inconclusive"
    worse = made_up_comparison("fell", "dpo", right_after=[True] * 30 + [False] * 10)
    assert judge_comparisons([good, worse]).outcome == "does not hold"
    assert [each.pair.name for each in judge_comparisons([good, good, worse]).pairs] == ["good", "good (2)", "fell"]
