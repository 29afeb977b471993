"""Tables and details: the words of outcomes, claims, controls by group, and what differs between the checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.made_up_effects import beyond_of, shift_of
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.checkpoints.weight_changes import TensorChange, WeightChanges
from rlcircuits.comparison.comparison import Comparison, GroupControl, SupervisedControl
from rlcircuits.comparison.effects import AccuracyClaim
from rlcircuits.comparison.verdict import judge
from rlcircuits.report.headline import make_headline
from rlcircuits.report.terminal import detail, summary_rows

FELL = [True] * 30 + [False] * 10


def words(comparison: Comparison) -> dict[str, str]:
    """The last cell of each row, by the row's measure."""
    return {row[1]: row[-1] for row in summary_rows(comparison)}


@pytest.mark.parametrize(
    ("algorithm", "rise", "verdict"),
    [
        ("grpo", True, "holds: shows the study's pattern"),
        ("grpo", False, "does not hold: intensity, complexity, kurtosis"),
        ("sft", True, "does not hold: shows online RL's pattern"),
        ("sft", False, "holds: does not show online RL's pattern"),
        ("dpo", True, "holds (asserts accuracy only)"),
        ("same-as", True, "does not hold: intensity, complexity, kurtosis, accuracy"),
    ],
)
def test_the_verdicts_row_says_what_the_pair_shows(algorithm: str, rise: bool, verdict: str) -> None:
    assert words(made_up_comparison(algorithm=algorithm, rise=rise))["verdict"] == verdict


def test_a_direction_as_expected_is_not_told_without_the_accuracy_that_fell() -> None:
    found = words(made_up_comparison(right_after=FELL))
    assert found["accuracy"] == "fell"
    assert found["intensity"] == "up as expected, but accuracy fell"
    assert found["loss"] == "down (reported)"
    assert words(made_up_comparison())["intensity"] == "up as expected"


def test_an_inconclusive_row_says_so() -> None:
    found = words(made_up_comparison(right_after=[True] * 40))
    assert found["accuracy"] == "no clear rise (inconclusive)"
    assert found["verdict"] == "inconclusive: accuracy"


def test_claims_have_rows() -> None:
    claims = (
        AccuracyClaim("claimed-accuracy", None, 0.97, 0.9, 400, 0.02, (-0.1, -0.04), 1e-4),
        AccuracyClaim("reference-accuracy", "runs/last", 0.91, 0.9, 400, 0.02, (-0.03, 0.01), 0.3),
    )
    comparison = replace(made_up_comparison(), claims=claims)
    rows = {row[1]: row for row in summary_rows(comparison)}
    assert rows["claimed-accuracy"][2:4] == ["0.970 → 0.900", "-7.0 pts"]
    assert rows["claimed-accuracy"][6] == "1e-04"
    assert rows["reference-accuracy"][-1].endswith("(inconclusive)")
    assert rows["intensity"][-1] == "up as expected, but below claimed-accuracy"
    assert rows["verdict"][-1] == "does not hold: claimed-accuracy"


def test_details_have_controls_by_group_and_what_differs_between_the_checkpoints() -> None:
    shifts = {metric: shift_of(0.004) for metric in ("intensity", "complexity", "kurtosis")}
    changed = TensorChange("model.norm.weight", 16, 4.0, 0.5, 0.1, None, None)
    same = TensorChange("lm_head.weight", 16, 4.0, 0.0, None, None, None)
    comparison = replace(
        made_up_comparison(),
        group_controls=(GroupControl("norms", shifts), GroupControl("MLP", {})),
        weights=WeightChanges((changed, same), (), False, None, None),
        differences=("the chat template is different",),
    )
    lines = detail(comparison).splitlines()
    assert "noise on norms alone: intensity +0.4 %, complexity +0.4 %, kurtosis +0.4 %" in lines
    assert "noise on MLP alone: not measured" in lines
    assert "differs: the chat template is different" in lines
    place = lines.index("weights: 1 of 2 tensors changed: model.norm.weight")
    assert lines[place + 1].startswith("  norms: 1 of 1 tensor changed")


def test_details_name_no_tokens_where_nothing_was_compared() -> None:
    compared = replace(made_up_comparison(), t_cut=7, ref=25.27)
    scored = "scored: the first 7 tokens of each model's own answers (reference length 25.3), sublayer graph"
    assert scored in detail(compared).splitlines()
    assert "scored: nothing, sublayer graph" in detail(replace(compared, question_ids=())).splitlines()


def supervised(intensity: float) -> Comparison:
    """A pair that shows the pattern, with a supervised control beyond which intensity moved by this, with error 1."""
    beyond = {"intensity": beyond_of(intensity, 1.0), "complexity": beyond_of(9, 1), "kurtosis": beyond_of(-9, 1)}
    return replace(made_up_comparison(), supervised=SupervisedControl("runs/sft-clean", 0.9, beyond))


@pytest.mark.parametrize(
    ("intensity", "outcome", "said"),
    [
        (9.0, "holds", "up as expected, beyond supervised training"),
        (0.5, "inconclusive", "up, not beyond supervised training (inconclusive)"),
        (-9.0, "does not hold", "up, within supervised training"),
    ],
)
def test_an_effect_counts_only_beyond_the_supervised_control(intensity: float, outcome: str, said: str) -> None:
    comparison = supervised(intensity)
    verdict = judge(comparison)
    assert verdict.outcome == outcome
    assert words(comparison)["intensity"] == said
    assert words(comparison)["complexity"] == "up as expected, beyond supervised training"
    message = verdict.findings["intensity"].message
    assert f"beyond supervised training (runs/sft-clean): {intensity:+.3g}, 95 % interval [" in message
    assert "on the 80 questions that both comparisons have" in message
    assert (
        "supervised control runs/sft-clean: accuracy 0.900; beyond its own effects, on the 80 questions that both"
        in (detail(comparison))
    )
    why = make_headline([comparison]).why
    assert ("shows the study's pattern beyond supervised training" in why) == (outcome == "holds")


def test_the_weights_own_evidence_is_one_line_that_is_no_verdict() -> None:
    changed = TensorChange("lm_head.weight", 16, 4.0, 0.5, 0.1, None, None)
    comparison = replace(made_up_comparison(), weights=WeightChanges((changed,), (), False, "runs/sft-clean", 0.41))
    assert (
        "from the weights alone (reported, no proof): unembedding's share of the squared update 1; cosine of the "
        "update with that of runs/sft-clean 0.41"
    ) in detail(comparison).splitlines()
    assert judge(comparison) == judge(made_up_comparison())
