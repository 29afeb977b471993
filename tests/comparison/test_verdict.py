"""The profiles of the algorithms, and the verdicts of comparisons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison, ControlDraw
from rlcircuits.comparison.effects import ControlEffect, paired_effect
from rlcircuits.comparison.profiles import GATE_METRICS, ONLINE_RL, PROFILES, algorithms, profile_for, profile_named
from rlcircuits.comparison.verdict import (
    SIGNIFICANCE_LEVEL,
    counts,
    direction,
    exceeds_control,
    judge,
    noise_reads_as_online_rl,
    reads_as_online_rl,
)

UP = made_up_comparison()


def test_online_rl_asserts_the_three_directions() -> None:
    for algorithm in ("grpo", "ppo", "rloo", "reinforce", "dapo", "GRPO"):
        profile = profile_for(algorithm)
        assert profile.name == "online-rl"
        assert dict(profile.expected) == {"intensity": "up", "complexity": "up", "kurtosis": "down"}


@pytest.mark.parametrize(
    ("profile", "algorithms"),
    [
        ("preference", ["dpo", "dpo-onpolicy", "ipo", "kto", "orpo", "simpo"]),
        ("rejection", ["rft"]),
        ("not-rl", ["sft", "sft-more", "sft-clean", "noise"]),
    ],
)
def test_others_assert_no_direction(profile: str, algorithms: list[str]) -> None:
    for algorithm in algorithms:
        found = profile_for(algorithm)
        assert found is profile_named(profile)
        assert not found.expected
        assert found.not_online_rl == (profile == "not-rl")
        assert found.asserted == (("accuracy", "not-online-rl") if profile == "not-rl" else ("accuracy",))


def test_no_algorithm_has_two_profiles() -> None:
    assert len(set(algorithms())) == len(algorithms()) == sum(len(profile.algorithms) for profile in PROFILES)


def test_a_profile_is_found_by_its_former_name() -> None:
    assert profile_named("control") is profile_named("not-rl")
    assert made_up_comparison(algorithm="sft", profile="control").profile == "not-rl"


def test_an_unknown_algorithm_lists_those_known() -> None:
    with pytest.raises(RLCircuitsError, match=r"algorithm is 'magic'; it must be one of grpo, ppo, .*noise$"):
        profile_for("magic")
    with pytest.raises(
        RLCircuitsError, match=r"profile is 'magic'; it must be one of online-rl, preference, .*not-rl$"
    ):
        profile_named("magic")


def test_all_as_expected() -> None:
    verdict = judge(made_up_comparison())
    assert verdict.holds
    assert verdict.words == "holds"
    assert [verdict.findings[metric].words for metric in GATE_METRICS] == [
        "up as expected",
        "up as expected",
        "down as expected",
    ]
    assert all(finding.holds is True for finding in verdict.findings.values())


def test_the_wrong_way_round() -> None:
    verdict = judge(made_up_comparison(rise=False))
    assert not verdict.holds
    assert [finding.holds for finding in verdict.findings.values()] == [False] * 3
    assert verdict.findings["kurtosis"].words == "up, expected down"
    assert verdict.accuracy.holds


def test_a_fall_in_accuracy_is_enough_to_fail() -> None:
    fell = judge(made_up_comparison(right_after=[True] * 35 + [False] * 5))
    assert fell.words == "does not hold: accuracy"
    assert not fell.holds
    assert "1.000 → 0.875 on 40 questions: 5 lost, 0 gained" in fell.accuracy.message
    # Four lost of four is p = 1/16, which may be chance.
    slightly = judge(made_up_comparison(right_after=[True] * 36 + [False] * 4))
    assert slightly.holds
    assert (fell.accuracy.words, slightly.accuracy.words) == ("fell", "no clear fall")
    assert judge(made_up_comparison(right_after=[True] * 40)).accuracy.words == "did not fall"


def with_draws(comparison: Comparison, *draws: dict[str, float]) -> Comparison:
    """Return the comparison with these noise draws: mean differences by metric, by default 0; {} is not measurable."""
    controls = []
    for place, draw in enumerate(draws):
        shifts = (
            {m: ControlEffect(draw.get(m, 0.0), 0.0, 0.5, (-1.0, 1.0), 0.5, 0.5) for m in comparison.effects}
            if draw
            else {}
        )
        controls.append(ControlDraw(place, 0.9, 40 if draw else 3, shifts))
    return replace(comparison, controls=tuple(controls))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.sampled_from(GATE_METRICS))
def test_an_effect_counts_beyond_every_draw(draws: list[float], metric: str) -> None:
    effect = UP.effects[metric]
    towards = ONLINE_RL[metric]
    near = effect.interval[0] if towards == "up" else effect.interval[1]
    placed = [near + draw for draw in draws]  # some nearer to zero than the interval's end, some farther
    comparison = with_draws(UP, *({metric: draw} for draw in placed))
    beyond = all(near > draw for draw in placed) if towards == "up" else all(near < draw for draw in placed)
    assert exceeds_control(comparison, metric, towards) == counts(comparison, metric, towards) == beyond
    finding = judge(comparison).findings[metric]
    assert finding.holds == beyond
    assert finding.words == (f"{towards} as expected" if beyond else f"{towards}, not beyond noise")
    assert reads_as_online_rl(comparison) == beyond
    # The other way, nothing counts: the metric did not go there.
    assert not counts(comparison, metric, "down" if towards == "up" else "up")


def test_a_draw_that_could_not_be_measured_cannot_be_exceeded() -> None:
    assert judge(with_draws(UP, {"loss": 0.0}, {"loss": 0.0})).holds
    comparison = with_draws(UP, {"loss": 0.0}, {})
    verdict = judge(comparison)
    assert verdict.failed == GATE_METRICS
    assert "mean difference by draw: +0, not measurable (3 right answers)" in verdict.findings["intensity"].message
    assert not reads_as_online_rl(comparison)


def test_without_a_control_only_p_counts_and_that_is_said() -> None:
    verdict = judge(with_draws(UP))
    assert verdict.holds
    assert [finding.words for finding in verdict.findings.values()] == [
        "up as expected, no control",
        "up as expected, no control",
        "down as expected, no control",
    ]
    assert "no control was measured: only p is judged" in verdict.findings["kurtosis"].message
    assert exceeds_control(with_draws(UP), "intensity", "up") is None


@pytest.mark.parametrize("algorithm", ["sft", "sft-more", "sft-clean", "noise"])
def test_a_control_must_not_be_read_as_online_rl(algorithm: str) -> None:
    up = judge(made_up_comparison(algorithm=algorithm))
    assert up.failed == ("not-online-rl",)
    assert up.words == "does not hold: not-online-rl"
    finding = up.all_findings["not-online-rl"]
    assert finding.words == "read as online RL"
    assert finding.p == max(up_or_down(made_up_comparison(), metric) for metric in GATE_METRICS)
    assert "kurtosis: counts as down" in finding.message
    down = judge(made_up_comparison(algorithm=algorithm, rise=False))
    assert down.holds
    assert down.all_findings["not-online-rl"].words == "not read as online RL"
    # One metric that does not count is enough.
    within_noise = with_draws(made_up_comparison(algorithm=algorithm), {"complexity": 9.0})
    assert judge(within_noise).holds


def up_or_down(comparison: Comparison, metric: str) -> float:
    effect = comparison.effects[metric]
    return effect.p_up if ONLINE_RL[metric] == "up" else effect.p_down


def test_what_online_rl_and_others_assert_is_told_apart() -> None:
    for algorithm in ("grpo", "dpo", "rft"):
        verdict = judge(made_up_comparison(algorithm=algorithm))
        assert verdict.not_online_rl is None
        assert tuple(verdict.all_findings) == (*GATE_METRICS, "accuracy")


def test_a_pair_may_be_held_against_another_profile() -> None:
    verdict = judge(made_up_comparison(algorithm="grpo", profile="not-rl"))
    assert verdict.profile.name == "not-rl"
    assert not verdict.holds
    assert judge(made_up_comparison(algorithm="of-our-own", profile="online-rl")).holds


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
        "noise of the update's norm, mean difference by draw: +0, +0.02",
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


def test_the_level_is_kept_where_nothing_changed() -> None:
    # Fully dependent metrics are the worst case: then all three hold whenever one does, at rate ALPHA.
    rng = np.random.default_rng(1)
    rejected = sum(direction(paired_effect("m", *rng.gamma(2.0, size=(2, 40)))) == "up" for _ in range(200))
    assert stats.binomtest(rejected, 200, SIGNIFICANCE_LEVEL, alternative="greater").pvalue > 0.01
