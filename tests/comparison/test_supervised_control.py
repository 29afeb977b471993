"""An effect beyond supervised training: a paired difference of differences, and what it takes to be one."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcircuits import load_comparison
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import ONLINE_RL
from rlcircuits.comparison.significance import SIGNIFICANCE_LEVEL
from rlcircuits.comparison.supervised_control import beyond_supervised

TEMPLATE = made_up_comparison(controls=())
CONTROL = replace(TEMPLATE, name="control", after="supervised", algorithm="sft-clean", profile="not-rl")


def with_values(
    template: Comparison, before: np.ndarray, after: np.ndarray, ids: list[str] | None = None, metric: str = "intensity"
) -> Comparison:
    """Return a comparison with these values of one metric and no other."""
    effect = replace(TEMPLATE.effects[metric], before_values=tuple(before.tolist()), after_values=tuple(after.tolist()))
    return replace(template, effects={metric: effect}, question_ids=tuple(ids or [f"q{i}" for i in range(len(before))]))


UP: Any = {"intensity": "up"}
DOWN: Any = {"intensity": "down"}


def drawn(seed: int, questions: int, shift: float) -> tuple[Comparison, Comparison]:
    rng = np.random.default_rng(seed)
    before = rng.gamma(4, 0.25, size=questions)
    own, control = (before + rng.normal(move, 0.2, size=questions) for move in (shift, 0))
    return with_values(TEMPLATE, before, own), with_values(CONTROL, before, control)


SEEDED = st.builds(drawn, st.integers(0, 10_000), st.integers(5, 40), st.sampled_from([-0.3, 0.0, 0.1, 0.3]))


@settings(max_examples=30)
@given(SEEDED)
def test_with_one_before_it_is_the_paired_test_of_after_against_supervised(pair: tuple[Comparison, Comparison]) -> None:
    own, control = (np.asarray(each.effects["intensity"].after_values) for each in pair)
    found = beyond_supervised(*pair, UP)["intensity"]
    assert found.difference == pytest.approx(own.mean() - control.mean())
    assert found.p == pytest.approx(stats.wilcoxon(own - control, alternative="greater", method="exact").pvalue)
    assert found.p_against == pytest.approx(stats.wilcoxon(own - control, alternative="less", method="exact").pvalue)
    assert found.interval[0] <= found.difference <= found.interval[1]
    assert found.questions == len(own)


@settings(max_examples=30)
@given(SEEDED)
def test_up_and_down_are_treated_alike(pair: tuple[Comparison, Comparison]) -> None:
    mirrored = [
        with_values(each, 5 - np.asarray(effect.before_values), 5 - np.asarray(effect.after_values))
        for each in pair
        for effect in [each.effects["intensity"]]
    ]
    up, down = beyond_supervised(*pair, UP)["intensity"], beyond_supervised(*mirrored, DOWN)["intensity"]
    assert (up.outcome, up.p, up.p_against) == (down.outcome, down.p, down.p_against)
    assert down.difference == pytest.approx(-up.difference)


@settings(max_examples=30)
@given(SEEDED, st.randoms())
def test_questions_are_matched_by_id(pair: tuple[Comparison, Comparison], shuffling: Any) -> None:
    own, control = pair
    order = list(range(control.k))
    shuffling.shuffle(order)
    effect = control.effects["intensity"]
    shuffled = with_values(
        CONTROL,
        np.asarray(effect.before_values)[order],
        np.asarray(effect.after_values)[order],
        [control.question_ids[i] for i in order],
    )
    assert beyond_supervised(own, shuffled, UP) == beyond_supervised(own, control, UP)


def test_each_comparison_brings_its_own_before_and_only_shared_questions_count() -> None:
    own = with_values(TEMPLATE, np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, math.nan]), ["a", "b", "c"])
    control = with_values(CONTROL, np.array([7.0, 1.5, 0.0]), np.array([7.0, 2.0, 9.0]), ["d", "b", "c"])
    found = beyond_supervised(own, control, UP)["intensity"]
    assert (found.questions, found.difference) == (1, 1.5)  # b: (4 - 2) - (2 - 1.5)


def test_a_metric_that_is_defined_nowhere_is_inconclusive() -> None:
    nowhere = np.full(3, math.nan)
    found = beyond_supervised(with_values(TEMPLATE, nowhere, nowhere), with_values(CONTROL, nowhere, nowhere), UP)
    effect = found["intensity"]
    assert (effect.questions, effect.p, effect.outcome) == (0, 1, "inconclusive")
    assert math.isnan(effect.difference)


@pytest.mark.parametrize(
    ("shift", "outcome", "words"),
    [
        (0.5, "holds", r"intensity: \+0\.\d+ beyond supervised training \[\+0\.\d+, \+0\.\d+\], p = .*e-.*"),
        (0.0, "inconclusive", r"intensity: not clearly beyond supervised training, .*"),
        (-0.5, "does not hold", r"intensity: not beyond supervised training, -0\.\d+ \[-.*, -.*\], p = 1"),
    ],
)
def test_what_is_beyond_supervised_training(shift: float, outcome: str, words: str) -> None:
    found = beyond_supervised(*drawn(1, 40, shift), UP)["intensity"]
    assert found.outcome == outcome
    assert re.fullmatch(words, found.words), found.words
    assert found.words[:100] in repr(found)


def test_training_that_does_what_supervised_training_does_is_seldom_beyond_it() -> None:
    runs = 300
    found = [beyond_supervised(*drawn(seed, 30, 0.0), UP, level=0.05)["intensity"] for seed in range(runs)]
    for outcome in ("holds", "does not hold"):
        count = sum(each.outcome == outcome for each in found)
        assert 0 < count <= stats.binom.isf(1e-4, runs, 0.05)


def test_shipped_online_rl_is_compared_with_shipped_supervised_training() -> None:
    stored = Path("tests/stored")
    found = beyond_supervised(load_comparison(stored / "grpo"), load_comparison(stored / "sft-clean"))
    assert {metric: effect.direction for metric, effect in found.items()} == dict(ONLINE_RL)
    assert found["intensity"].outcome == "holds"
    assert found["intensity"].level == SIGNIFICANCE_LEVEL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"before": "other"}, "before is 'base' in pair 'made-up' and 'other' in its supervised control 'control'"),
        ({"questions": "sums"}, "questions is 'arithmetic' .* and 'sums'"),
        ({"granularity": "head"}, "granularity is 'sublayer' .* and 'head'"),
        ({"alpha": 0.9}, r"alpha is 0\.3 .* and 0\.9"),
        ({"profile": "online-rl", "algorithm": "ppo"}, "'control' has algorithm 'ppo', which is online RL"),
        ({"question_ids": tuple(f"r{i}" for i in range(40))}, "share no question; compare more questions in both"),
        ({"effects": {}}, "metric 'intensity' is not in pair 'control'"),
    ],
)
def test_faults_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        beyond_supervised(TEMPLATE, replace(CONTROL, **change))


def test_a_level_outside_0_and_1_is_an_error() -> None:
    with pytest.raises(RLCircuitsError, match=r"level is 5\.0; a number between 0 and 1"):
        beyond_supervised(TEMPLATE, CONTROL, level=5.0)
