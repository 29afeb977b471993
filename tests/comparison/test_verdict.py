"""The verdict of a comparison: what its findings say, and how its outcome follows from theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.made_up_effects import effect_of, groups_of, mirrored, shift_of
from helpers.synthetic_comparisons import answers_of, made_up_comparison
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.comparison.comparison import CONTROL_METRICS, Comparison, ControlDraw, GroupControl
from rlcircuits.comparison.effects import (
    AccuracyClaim,
    ControlEffect,
    compare_accuracy,
    compare_with_claim,
    paired_effect,
)
from rlcircuits.comparison.outcome import OUTCOMES, Outcome
from rlcircuits.comparison.profiles import GATE_METRICS, ONLINE_RL, AccuracyRule, MetricRule, Profile, profile_named
from rlcircuits.comparison.significance import SIGNIFICANCE_LEVEL
from rlcircuits.comparison.verdict import (
    Finding,
    Verdict,
    direction,
    exceeds_control,
    judge,
    noise_reads_as_online_rl,
    reads_as_online_rl,
)

UP = made_up_comparison()


def test_all_as_expected() -> None:
    verdict = judge(UP)
    assert (verdict.outcome, verdict.holds, verdict.words) == ("holds", True, "holds")
    assert [verdict.findings[metric].words for metric in GATE_METRICS] == [
        "up as expected",
        "up as expected",
        "down as expected",
    ]
    assert all(finding.holds is True for finding in verdict.findings.values())
    assert (verdict.accuracy.words, verdict.accuracy.outcome) == ("rose", "holds")


def test_the_wrong_way_round() -> None:
    verdict = judge(made_up_comparison(rise=False))
    assert verdict.outcome == "does not hold"
    assert verdict.failed == GATE_METRICS
    assert [verdict.findings[metric].words for metric in GATE_METRICS] == [
        "down, expected up",
        "down, expected up",
        "up, expected down",
    ]
    assert verdict.accuracy.holds


def finding_of(outcome: Outcome | None, measure: str = "intensity") -> Finding:
    return Finding(measure, None, 0.5, outcome, "", "")


@given(st.lists(st.sampled_from([*OUTCOMES, None]), min_size=5, max_size=5))
def test_the_outcome_is_the_worst_of_the_findings(outcomes: list[Outcome | None]) -> None:
    *metrics, accuracy, claim = outcomes
    verdict = Verdict(
        profile_named("online-rl"),
        {name: finding_of(outcome, name) for name, outcome in zip(GATE_METRICS, metrics, strict=True)},
        finding_of(accuracy, "accuracy"),
        (finding_of(claim, "claimed-accuracy"),),
        None,
    )
    found = [outcome for outcome in outcomes if outcome is not None]
    order: list[Outcome] = ["holds", "inconclusive", "does not hold"]
    assert verdict.outcome == max(found, key=order.index, default="holds")
    assert verdict.words.count(",") == max(0, found.count(verdict.outcome) - 1) * (verdict.outcome != "holds")
    assert verdict.holds == (verdict.outcome == "holds")


def test_accuracy_alone_can_fail_or_leave_open() -> None:
    fell = judge(made_up_comparison(right_after=[True] * 35 + [False] * 5))
    assert fell.words == "does not hold: accuracy"
    assert "accuracy: fell\n  1.000 → 0.875 on 40 questions: 5 lost, 0 gained" in fell.accuracy.message
    # What fell is shown with the p of its fall.
    assert fell.accuracy.p == 1 / 32
    assert "p = 0.031 (one-sided exact McNemar test for a fall, level 0.05)" in fell.accuracy.message
    # Accuracy cannot rise from 1: with 40 questions it is not known that it did not fall.
    unclear = judge(made_up_comparison(right_after=[True] * 40))
    assert unclear.words == "inconclusive: accuracy"
    assert unclear.accuracy.message.splitlines()[0].endswith("accuracy: inconclusive: no clear rise")
    assert unclear.accuracy.settled_by is not None
    assert "asked questions would settle it" in unclear.accuracy.message
    assert "one-sided exact McNemar test for a rise, level 0.01" in unclear.accuracy.message


@pytest.mark.parametrize(("lost", "words", "holds"), [(5, "fell", False), (4, "no clear fall", True)])
def test_without_rl_accuracy_must_not_have_fallen(lost: int, words: str, holds: bool) -> None:
    # Four lost of four is p = 1/16, which may be chance.
    verdict = judge(made_up_comparison(algorithm="dpo", right_after=[True] * (40 - lost) + [False] * lost))
    assert (verdict.accuracy.words, verdict.holds) == (words, holds)
    assert "McNemar test for a fall, level 0.05" in verdict.accuracy.message


def with_draws(comparison: Comparison, *draws: dict[str, float]) -> Comparison:
    """Return the comparison with these noise draws: mean differences by metric, by default 0; {} is not measurable."""
    controls = [
        ControlDraw(
            place, 0.9, 40 if draw else 3, {m: shift_of(draw.get(m, 0.0)) for m in CONTROL_METRICS} if draw else {}
        )
        for place, draw in enumerate(draws)
    ]
    return replace(comparison, controls=tuple(controls))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.sampled_from(GATE_METRICS))
def test_an_effect_counts_beyond_every_draw(draws: list[float], metric: str) -> None:
    effect = UP.effects[metric]
    towards = ONLINE_RL[metric]
    near, far = effect.interval if towards == "up" else effect.interval[::-1]
    placed = [near + draw for draw in draws]  # some nearer to zero than the interval's end, some farther
    comparison = with_draws(UP, *({metric: draw} for draw in placed))
    sign = 1 if towards == "up" else -1
    beyond = all(sign * near > sign * draw * factor for draw in placed for factor in (1, 1.25))
    within = all(sign * far < sign * draw for draw in placed)
    assert exceeds_control(comparison, metric, towards) == beyond
    finding = judge(comparison).findings[metric]
    assert finding.outcome == ("holds" if beyond else "does not hold" if within else "inconclusive")
    assert finding.words == (
        f"{towards} as expected" if beyond else f"{towards}, {'within' if within else 'not beyond'} noise"
    )
    assert reads_as_online_rl(comparison) == beyond


def test_a_draw_that_could_not_be_measured_leaves_it_open() -> None:
    assert judge(with_draws(UP, {"loss": 0.0}, {"loss": 0.0})).holds
    comparison = with_draws(UP, {"loss": 0.0}, {})
    verdict = judge(comparison)
    assert verdict.inconclusive == GATE_METRICS
    assert "mean difference by draw: +0, not measurable (3 right answers)" in verdict.findings["intensity"].message
    assert not reads_as_online_rl(comparison)
    undefined = with_draws(UP, {"loss": 0.0}, {"intensity": float("nan")})
    assert judge(undefined).inconclusive == ("intensity",)
    assert exceeds_control(undefined, "intensity", "up") is False
    assert "by draw: +0, not defined (accuracy" in judge(undefined).findings["intensity"].message


def test_without_a_control_that_is_said() -> None:
    verdict = judge(with_draws(UP))
    assert verdict.holds
    assert [finding.words for finding in verdict.findings.values()] == [
        "up as expected, no control",
        "up as expected, no control",
        "down as expected, no control",
    ]
    assert "no noise control was measured" in verdict.findings["kurtosis"].message
    assert exceeds_control(with_draws(UP), "intensity", "up") is None


def test_noise_on_one_group_is_shown_and_can_leave_it_open() -> None:
    within = with_draws(UP, {"intensity": 1e3})
    assert judge(within).findings["intensity"].outcome == "does not hold"
    quiet, loud = (
        GroupControl(group, {m: shift_of(size if m == "intensity" else 0.0) for m in CONTROL_METRICS})
        for group, size in (("attention", 0.0), ("norms", 1e3))
    )
    finding = judge(replace(within, group_controls=(quiet, loud))).findings["intensity"]
    assert (finding.outcome, finding.words) == ("inconclusive", "up, not beyond noise")
    assert "the noise control on one group of tensors alone: attention +0, norms +1e+03\n" in finding.message
    assert "on norms alone it moves as far as the effect" in finding.message
    unmeasured = replace(within, group_controls=(quiet, *groups_of({"norms": None})))
    assert "attention +0, norms not measurable" in judge(unmeasured).findings["intensity"].message


def test_a_metric_that_was_not_defined_is_said_to_be() -> None:
    undefined = paired_effect("complexity", np.full(40, np.nan), np.full(40, np.nan))
    for algorithm, words in (("grpo", "not measured, expected up"), ("dpo", "not measured (reported)")):
        comparison = replace(made_up_comparison(algorithm=algorithm), effects={**UP.effects, "complexity": undefined})
        finding = judge(comparison).findings["complexity"]
        assert finding.words == words
        assert "not defined on any compared question" in finding.message
        assert "nan" not in finding.message
        assert "would settle it" not in finding.message
    assert judge(replace(UP, effects={**UP.effects, "complexity": undefined})).words == "inconclusive: complexity"


@pytest.mark.parametrize("algorithm", ["sft", "sft-more", "sft-clean", "noise"])
def test_training_without_rl_must_not_show_the_pattern(algorithm: str) -> None:
    shown = judge(made_up_comparison(algorithm=algorithm))
    assert shown.words == "does not hold: not-online-rl"
    finding = shown.all_findings["not-online-rl"]
    assert finding.words == "shows online RL's pattern"
    assert finding.p == max(p_in_direction(UP, metric) for metric in GATE_METRICS)
    assert "kurtosis down, as under online RL: holds, as expected" in finding.message
    down = judge(made_up_comparison(algorithm=algorithm, rise=False))
    assert down.holds
    assert down.all_findings["not-online-rl"].words == "does not show online RL's pattern"
    # One metric that does not hold is enough, and one of which too little is known leaves it open.
    within_noise = with_draws(made_up_comparison(algorithm=algorithm), {"complexity": 9.0})
    assert judge(within_noise).holds
    open_ = judge(with_draws(made_up_comparison(algorithm=algorithm), {"complexity": 9.0}, {"complexity": 0.0}))
    assert open_.words == "inconclusive: not-online-rl"
    assert open_.all_findings["not-online-rl"].words == "may show online RL's pattern"
    assert "inconclusive: may show online RL's pattern" in open_.all_findings["not-online-rl"].message


def p_in_direction(comparison: Comparison, metric: str) -> float:
    effect = comparison.effects[metric]
    return effect.p_up if ONLINE_RL[metric] == "up" else effect.p_down


def claimed(measure: str, wanted: float, interval: tuple[float, float]) -> AccuracyClaim:
    reference = None if measure == "claimed-accuracy" else "runs/last-release"
    return AccuracyClaim(measure, reference, wanted, 0.95, 400, 0.02, interval, 0.5)  # type: ignore[arg-type]


def test_a_claim_fails_a_pair_that_holds_otherwise() -> None:
    met = claimed("claimed-accuracy", 0.95, (-0.01, 0.01))
    missed = claimed("reference-accuracy", 0.99, (-0.06, -0.03))
    verdict = judge(replace(UP, claims=(met, missed)))
    assert tuple(verdict.all_findings) == (*GATE_METRICS, "accuracy", "claimed-accuracy", "reference-accuracy")
    assert verdict.words == "does not hold: reference-accuracy"
    assert [claim.words for claim in verdict.claims] == ["not inferior", "below the claim"]
    assert "the accuracy of runs/last-release is 0.990; found 0.950 on 400 questions" in verdict.claims[1].message
    assert "[-6.0, -3.0] points; the margin is 2 points" in verdict.claims[1].message
    unclear = judge(replace(UP, claims=(met, replace(missed, interval=(-0.06, -0.01)))))
    assert unclear.words == "inconclusive: reference-accuracy"
    assert judge(replace(UP, claims=(met,))).holds
    answers = answers_of([True] * 380 + [False] * 20)
    assert judge(replace(UP, claims=(compare_with_claim(answers, 0.95, 0.05),))).holds


def test_what_online_rl_and_others_assert_is_told_apart() -> None:
    for algorithm in ("grpo", "dpo", "rft"):
        verdict = judge(made_up_comparison(algorithm=algorithm))
        assert verdict.not_online_rl is None
        assert tuple(verdict.all_findings) == (*GATE_METRICS, "accuracy")


def test_a_pair_may_be_held_against_another_profile() -> None:
    verdict = judge(made_up_comparison(algorithm="grpo", profile="not-rl"))
    assert verdict.profile.name == "not-rl"
    assert verdict.outcome == "does not hold"
    assert judge(made_up_comparison(algorithm="of-our-own", profile="online-rl")).holds
    assert judge(made_up_comparison(algorithm="sft", profile="control")).profile.name == "not-rl"


def test_a_profile_of_ones_own_is_judged_by_its_rules() -> None:
    ours = Profile(
        "ours",
        accuracy=AccuracyRule("not-inferior", margin=0.3),
        metrics={"intensity": MetricRule("same", bound=0.5), "kurtosis": MetricRule("up", minimum=0.1)},
    )
    verdict = judge(replace(UP, profile="ours", rules=ours))
    assert verdict.failed == ("intensity", "kurtosis")
    assert [verdict.findings[metric].words for metric in GATE_METRICS] == [
        "not the same",
        "up (reported)",
        "down, expected up",
    ]
    assert "the bound is ±" in verdict.findings["intensity"].message
    assert "(50 % of before)" in verdict.findings["intensity"].message
    assert verdict.accuracy.words == "not inferior"
    assert "test for a fall; the interval decides)" in verdict.accuracy.message
    assert "the margin is 30 points" in verdict.accuracy.message


def test_a_candidate_that_did_not_change_is_the_same() -> None:
    still = {metric: paired_effect(metric, *[np.array(e.before_values)] * 2) for metric, e in UP.effects.items()}
    unchanged = compare_accuracy(*[answers_of([True] * 400)] * 2)
    comparison = replace(UP, algorithm="same-as", profile="same-as", effects=still, accuracy=unchanged)
    assert judge(comparison).holds
    assert judge(replace(UP, profile="same-as", accuracy=unchanged)).failed == GATE_METRICS


def test_the_mean_decides_the_words_where_ranks_say_otherwise() -> None:
    # Most questions rose a little, and a few fell far: the mean fell.
    before = np.full(60, 10.0)
    after = before + np.where(np.arange(60) < 52, 0.01, -9.0) + np.linspace(0, 0.001, 60)
    effect = paired_effect("intensity", before, after)
    assert direction(effect) == "up"
    assert effect.interval[1] < 0
    finding = judge(replace(UP, effects={**UP.effects, "intensity": effect})).findings["intensity"]
    assert (finding.outcome, finding.words) == ("does not hold", "down, expected up")


def test_noise_that_moves_all_three_is_noticed() -> None:
    still = {metric: ControlEffect(0.0, 0.0, 0.5, (-0.1, 0.1), 0.5, 0.5) for metric in GATE_METRICS}
    up = {metric: ControlEffect(1.0, 1.0, 0.9, (0.8, 1.2), 1e-5, 1.0) for metric in GATE_METRICS}
    as_online_rl = {**up, "kurtosis": ControlEffect(-1.0, -1.0, 0.1, (-1.2, -0.8), 1.0, 1e-5)}

    def read(*draws: dict[str, ControlEffect]) -> list[bool]:
        controls = tuple(ControlDraw(place, 0.9, 40, shifts) for place, shifts in enumerate(draws))
        comparison = replace(UP, controls=controls)
        return [noise_reads_as_online_rl(comparison, control) for control in controls]

    assert read(as_online_rl, still, still) == [True, False, False]
    assert read(up, still, still) == [False] * 3  # kurtosis went up
    assert read(as_online_rl, as_online_rl, still) == [False] * 3  # neither is beyond the other
    assert read(as_online_rl, {}, still) == [False] * 3  # one that cannot be measured cannot be exceeded
    assert read(as_online_rl) == [True]


@pytest.mark.parametrize("algorithm", ["dpo", "rft"])
@pytest.mark.parametrize("rise", [True, False])
def test_reported_directions_hold_either_way(algorithm: str, rise: bool) -> None:
    verdict = judge(made_up_comparison(algorithm=algorithm, rise=rise))
    assert verdict.holds
    assert all(finding.holds is None for finding in verdict.findings.values())
    assert verdict.findings["intensity"].words == ("up (reported)" if rise else "down (reported)")
    assert not judge(made_up_comparison(algorithm=algorithm, right_after=[True, False] * 20)).holds


def test_the_message_shows_the_numbers() -> None:
    comparison = made_up_comparison("my-pair", rise=False)
    effect = comparison.effects["intensity"]
    message = judge(comparison).findings["intensity"].message
    for part in (
        "my-pair (grpo), intensity: down, expected up",
        f"{effect.before:.4g} → {effect.after:.4g} ({effect.change:+.1%})",
        "K = 40",
        f"rose on {effect.win_share:.0%}",
        f"p = {effect.p_up:.2g} (one-sided Wilcoxon signed-rank test for up, level 0.01)",
        "95 % interval of the mean difference: [",
        "noise that matches the update, mean difference by draw: +0, +0.02",
        "(accuracy 1.000, 1.000)",
        "intensity / loss ",
        "loss ",
        "raw intensity follows surprise",
    ):
        assert part in message


def test_no_clear_change() -> None:
    rng = np.random.default_rng(0)
    effect = paired_effect("m", *rng.normal(size=(2, 50)))
    assert direction(effect) is None


@given(st.floats(0, 1), st.floats(1e-6, 0.5))
def test_a_direction_is_significant_at_the_level_that_is_asked_for(p: float, level: float) -> None:
    up = effect_of(1.0, 1.0, p_up=p)
    wanted = "up" if p < level else "down" if 1 - p < level else None
    assert direction(up, level) == wanted
    assert direction(mirrored(up), level) == ({"up": "down", "down": "up"}[wanted] if wanted else None)
    assert direction(up) == direction(up, SIGNIFICANCE_LEVEL)


@pytest.mark.parametrize(("level", "words"), [(0.001, "no clear change, expected up"), (0.05, "up as expected")])
def test_a_finding_tells_the_direction_at_the_profiles_level(level: float, words: str) -> None:
    effect = replace(UP.effects["intensity"], p_up=0.005, p_down=0.995, p_two_sided=0.01)
    rules = Profile("ours", metrics={"intensity": MetricRule("up", level=level)})
    comparison = replace(UP, effects={**UP.effects, "intensity": effect}, profile="ours", rules=rules)
    assert judge(comparison).findings["intensity"].words == words


def test_the_message_says_how_far_beyond_noise_an_effect_must_lie() -> None:
    def control_line(rule: MetricRule | None) -> str:
        metrics = {} if rule is None else {"intensity": rule}
        message = (
            judge(replace(UP, profile="ours", rules=Profile("ours", metrics=metrics))).findings["intensity"].message
        )
        (line,) = (line for line in message.splitlines() if "noise that matches the update" in line)
        return line

    asserted = control_line(MetricRule("up"))
    assert asserted.endswith("(accuracy 1.000, 1.000); the effect must lie beyond 1.25 times each")
    # Where no direction is asserted noise decides nothing.
    for rule in (None, MetricRule("same", bound=0.1)):
        assert control_line(rule).endswith("(accuracy 1.000, 1.000)")


def test_the_message_says_which_margin_accuracy_is_held_against() -> None:
    def interval_line(rule: AccuracyRule) -> str:
        message = judge(replace(UP, profile="ours", rules=Profile("ours", accuracy=rule))).accuracy.message
        (line,) = (line for line in message.splitlines() if "90 % interval" in line)
        return line.split("points", 1)[1]

    assert interval_line(AccuracyRule("rose", minimum=0.01)) == "; a rise of less than 1 point does not count"
    assert interval_line(AccuracyRule("not-fallen")) == ""
    assert interval_line(AccuracyRule("not-inferior", margin=0.035)) == "; the margin is 3.5 points"
    assert interval_line(AccuracyRule("equivalent", margin=0.02)) == "; the margin is 2 points either way"


def test_the_level_is_kept_where_nothing_changed() -> None:
    # Fully dependent metrics are the worst case: then all three hold whenever one does, at rate ALPHA.
    rng = np.random.default_rng(1)
    rejected = sum(direction(paired_effect("m", *rng.gamma(2.0, size=(2, 40)))) == "up" for _ in range(200))
    assert stats.binomtest(rejected, 200, SIGNIFICANCE_LEVEL, alternative="greater").pvalue > 0.01
