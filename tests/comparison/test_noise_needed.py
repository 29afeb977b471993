"""Whether missing noise can change the verdict: where it is said that it cannot, no noise whatever does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from helpers.made_up_effects import beyond_of, effect_of, effects, shift_of, steps
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import event, given, settings
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import (
    Comparison,
    ControlDraw,
    GroupControl,
    NoiseNotNeeded,
    Requested,
    SupervisedControl,
)
from rlcircuits.comparison.consistency import check_comparison
from rlcircuits.comparison.effects import ControlEffect, Effect
from rlcircuits.comparison.evidence import evidence_against
from rlcircuits.comparison.multiplicity import combine_evidence
from rlcircuits.comparison.noise_needed import noise_can_decide
from rlcircuits.comparison.profiles import GATE_METRICS, MetricRule, Profile, profile_named
from rlcircuits.comparison.storage import load_comparison, save_comparison
from rlcircuits.comparison.verdict import judge, reads_as_online_rl
from rlcircuits.models.tensor_groups import GROUPS

ALGORITHMS = ("grpo", "sft", "dpo", "es", "same-as")
CONTRARY = Profile(
    name="contrary",
    algorithms=("grpo",),
    accuracy=profile_named("preference").accuracy,
    metrics={
        "intensity": MetricRule(expected="down", minimum=0.05),
        "kurtosis": MetricRule(expected="up"),
        "complexity": MetricRule(expected="same", bound=0.5),
    },
)
"""Asserts the contrary of online RL's directions."""


@cache
def made_up(algorithm: str = "grpo") -> Comparison:
    found = made_up_comparison(algorithm=algorithm, controls=())
    return replace(found, requested=Requested(None, 3))


def moved(found: Comparison, by: dict[str, Effect]) -> Comparison:
    return replace(found, effects={**found.effects, **{name: replace(by[name], metric=name) for name in by}})


gate_effects = st.fixed_dictionaries({metric: effects() for metric in GATE_METRICS})
shifts = st.just({}) | st.fixed_dictionaries(
    {metric: (st.just(float("nan")) | steps).map(shift_of) for metric in GATE_METRICS}
)
beyond = st.builds(beyond_of, steps, st.floats(0.01, 2.0))


def decided(comparison: Comparison) -> object:
    """Everything that is decided of a pair."""
    findings = judge(comparison).all_findings
    outcomes = {measure: (each.outcome, each.settled_by) for measure, each in findings.items() if each.outcome}
    return outcomes, reads_as_online_rl(comparison), combine_evidence(evidence_against(comparison))


@settings(max_examples=150)
@given(st.data())
def test_noise_that_cannot_decide_changes_nothing(data: st.DataObject) -> None:
    rules = data.draw(st.sampled_from([None, CONTRARY]), "rules")
    found = moved(made_up(data.draw(st.sampled_from(ALGORITHMS), "algorithm")), data.draw(gate_effects, "effects"))
    if rules is not None:
        found = replace(found, rules=rules, profile=rules.name)
    drawn = [ControlDraw(i, 0.9, 40, each) for i, each in enumerate(data.draw(st.lists(shifts, max_size=3), "draws"))]
    known = data.draw(st.integers(0, len(drawn)), "known")
    groups = [GroupControl(group, data.draw(shifts, group)) for group in GROUPS[: data.draw(st.integers(0, 3))]]
    without = replace(found, controls=tuple(drawn[:known]))
    if noise_can_decide(without, draws=known < len(drawn), groups=bool(groups)):
        event("noise can decide")
        return
    event(f"noise is missing and cannot decide: {known < len(drawn) or bool(groups)}")
    whole = replace(found, controls=tuple(drawn), group_controls=tuple(groups))
    assert decided(whole) == decided(without)
    control = SupervisedControl("other", 0.9, {metric: data.draw(beyond, metric) for metric in GATE_METRICS})
    assert decided(replace(whole, supervised=control)) == decided(replace(without, supervised=control))


@settings(max_examples=50)
@given(gate_effects, st.sampled_from(ALGORITHMS), st.lists(shifts, min_size=1, max_size=3))
def test_nothing_is_needed_where_nothing_is_missing(
    by: dict[str, Effect], algorithm: str, drawn: list[dict[str, ControlEffect]]
) -> None:
    found = replace(moved(made_up(algorithm), by), controls=(ControlDraw(0, 0.9, 40, drawn[0]),))
    assert not noise_can_decide(found, draws=False, groups=False)


def effects_by(intensity: float, complexity: float, kurtosis: float) -> dict[str, Effect]:
    means = {"intensity": intensity, "complexity": complexity, "kurtosis": kurtosis}
    return {metric: effect_of(mean, 0.01, metric=metric) for metric, mean in means.items()}


SHOWS = effects_by(0.5, 0.5, -0.5)


@pytest.mark.parametrize(
    ("algorithm", "by", "needed"),
    [
        ("grpo", SHOWS, True),  # any draw may reach the effect
        ("grpo", effects_by(0.5, 0.5, 0.5), True),  # draws change the evidence against intensity
        ("sft", SHOWS, True),
        ("sft", effects_by(-0.5, 0.5, -0.5), False),  # intensity is against it, whatever noise does
        ("dpo", SHOWS, True),  # noise says whether it shows the pattern
        ("dpo", effects_by(0.5, 0.0, 0.0), False),
        ("same-as", effects_by(0.5, 0.0, 0.0), False),
    ],
)
def test_what_is_known_of_the_effects_decides(algorithm: str, by: dict[str, Effect], needed: bool) -> None:
    assert noise_can_decide(moved(made_up(algorithm), by), draws=True, groups=True) is needed


def test_a_draw_that_could_not_be_measured_makes_the_others_unnecessary() -> None:
    """No effect exceeds it, and none lies below it."""
    found = moved(made_up("sft"), SHOWS)
    at_rest = ControlDraw(0, 0.9, 40, {metric: shift_of(0.0) for metric in GATE_METRICS})
    assert noise_can_decide(replace(found, controls=(at_rest,)), draws=True, groups=False)
    assert not noise_can_decide(replace(found, controls=(replace(at_rest, shifts={}),)), draws=True, groups=True)


def test_noise_that_moves_one_metric_alone_may_say_what_settles_the_pattern() -> None:
    """After a draw beyond intensity's effect, and noise that moves every metric alike leaves nothing to settle."""
    found = moved(made_up("sft"), {**SHOWS, **effects_by(0.5, 0.9, -0.9), "intensity": effect_of(0.5, 0.05)})
    beyond = ControlDraw(0, 0.9, 40, {metric: shift_of(0.52 * (metric == "intensity")) for metric in GATE_METRICS})
    at_rest = ControlDraw(1, 0.9, 40, {metric: shift_of(0.0) for metric in GATE_METRICS})
    one, again, other = (replace(found, controls=draws) for draws in ((beyond,), (beyond, beyond), (beyond, at_rest)))
    assert decided(one) == decided(again) != decided(other)
    assert noise_can_decide(one, draws=True, groups=False)


def test_a_file_may_leave_out_only_what_is_not_needed(tmp_path: Path) -> None:
    left_out = NoiseNotNeeded(3, True)
    with pytest.raises(RLCircuitsError, match=r"noise_not_needed.* could change the verdict"):
        check_comparison(replace(made_up("grpo"), noise_not_needed=left_out))
    unneeded = replace(made_up("es"), noise_not_needed=left_out, effects=dict(made_up_comparison(rise=False).effects))
    with pytest.raises(RLCircuitsError, match="a list of 3 draws"):
        check_comparison(replace(unneeded, noise_not_needed=None))
    save_comparison(unneeded, tmp_path)
    assert load_comparison(tmp_path) == unneeded


@pytest.mark.parametrize(
    ("left_out", "groups", "words"),
    [
        (NoiseNotNeeded(0, False), (), "what was not measured"),
        (NoiseNotNeeded(-1, True), (), "what was not measured"),
        (NoiseNotNeeded(3, True), (GroupControl("norms", {}),), "no groups, as group_controls has them"),
    ],
)
def test_what_was_left_out_is_something(left_out: NoiseNotNeeded, groups: tuple[GroupControl, ...], words: str) -> None:
    drawn = tuple(ControlDraw(place, 0.9, 40, {}) for place in range(3 - left_out.draws))
    with pytest.raises(RLCircuitsError, match=rf"noise_not_needed.*{words}"):
        check_comparison(replace(made_up("es"), controls=drawn, group_controls=groups, noise_not_needed=left_out))
