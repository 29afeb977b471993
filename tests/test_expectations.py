"""Which algorithm should do what, and what a comparison's verdict says of it."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import made_up_comparison
from scipy import stats

from rlcircuits.comparison import paired_effect
from rlcircuits.errors import RLCircuitsError
from rlcircuits.expectations import ALPHA, GATE_METRICS, PROFILES, algorithms, direction, judge, profile_for


def test_online_rl_asserts_the_three_directions() -> None:
    for algorithm in ("grpo", "ppo", "rloo", "reinforce", "dapo", "GRPO"):
        profile = profile_for(algorithm)
        assert profile.name == "online-rl"
        assert dict(profile.expected) == {"intensity": "up", "complexity": "up", "kurtosis": "down"}


@pytest.mark.parametrize("algorithm", ["dpo", "ipo", "kto", "orpo", "simpo", "sft", "rft", "noise"])
def test_others_assert_no_direction(algorithm: str) -> None:
    assert not profile_for(algorithm).expected


def test_no_algorithm_has_two_profiles() -> None:
    assert len(set(algorithms())) == len(algorithms()) == sum(len(profile.algorithms) for profile in PROFILES)


def test_an_unknown_algorithm_lists_those_known() -> None:
    with pytest.raises(RLCircuitsError, match=r"algorithm is 'magic'; it must be one of grpo, ppo, .*noise$"):
        profile_for("magic")


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
    assert judge(made_up_comparison(right_after=[True] * 36 + [False] * 4)).holds


@pytest.mark.parametrize("algorithm", ["dpo", "sft"])
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
    assert stats.binomtest(rejected, 200, ALPHA, alternative="greater").pvalue > 0.01
