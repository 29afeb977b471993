"""An effect beyond supervised training: a paired difference of differences, and what it takes to be one."""

from __future__ import annotations

import math
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
from rlcircuits.comparison.comparison import BeyondSupervised, Comparison
from rlcircuits.comparison.effects import paired_effect
from rlcircuits.comparison.profiles import ONLINE_RL
from rlcircuits.comparison.supervised_control import beyond_supervised

TEMPLATE = made_up_comparison(controls=())
CONTROL = replace(TEMPLATE, name="control", after="supervised", algorithm="sft-clean", profile="not-rl")


def with_values(
    template: Comparison, before: np.ndarray, after: np.ndarray, ids: list[str] | None = None, metric: str = "intensity"
) -> Comparison:
    """Return a comparison with these values of one metric and no other."""
    effect = replace(TEMPLATE.effects[metric], before_values=tuple(before.tolist()), after_values=tuple(after.tolist()))
    return replace(template, effects={metric: effect}, question_ids=tuple(ids or [f"q{i}" for i in range(len(before))]))


INTENSITY = ("intensity",)


def beyond(comparison: Comparison, control: Comparison) -> BeyondSupervised:
    return beyond_supervised(comparison, control, INTENSITY).beyond["intensity"]


def drawn(seed: int, questions: int, shift: float) -> tuple[Comparison, Comparison]:
    rng = np.random.default_rng(seed)
    before = rng.gamma(4, 0.25, size=questions)
    own, control = (before + rng.normal(move, 0.2, size=questions) for move in (shift, 0))
    # Multiples of 2^-20, whose differences are exact: (after - before) - (control - before) is after - control to the
    # last bit, on which the interval of a few questions can depend, since its resamples have ties.
    before, own, control = (np.round(values * 2**20) / 2**20 for values in (before, own, control))
    return with_values(TEMPLATE, before, own), with_values(CONTROL, before, control)


SEEDED = st.builds(drawn, st.integers(0, 10_000), st.integers(5, 40), st.sampled_from([-0.3, 0.0, 0.1, 0.3]))


@settings(max_examples=30)
@given(SEEDED)
def test_with_one_before_it_is_after_against_supervised(pair: tuple[Comparison, Comparison]) -> None:
    own, control = (np.asarray(each.effects["intensity"].after_values) for each in pair)
    found = beyond(*pair)
    assert found.difference == pytest.approx(own.mean() - control.mean())
    assert found.interval == pytest.approx(paired_effect("intensity", control, own).interval)
    assert found.questions == len(own)


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
    assert beyond(own, shuffled) == beyond(own, control)


def test_each_comparison_brings_its_own_before_and_only_shared_questions_count() -> None:
    own = with_values(TEMPLATE, np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, math.nan]), ["a", "b", "c"])
    control = with_values(CONTROL, np.array([7.0, 1.5, 0.0]), np.array([7.0, 2.0, 9.0]), ["d", "b", "c"])
    found = beyond(own, control)
    assert (found.questions, found.difference) == (1, 1.5)  # b: (4 - 2) - (2 - 1.5)


def test_a_metric_that_is_defined_nowhere_has_no_difference() -> None:
    nowhere = np.full(3, math.nan)
    found = beyond(with_values(TEMPLATE, nowhere, nowhere), with_values(CONTROL, nowhere, nowhere))
    assert found.questions == 0
    assert math.isnan(found.difference)
    assert math.isnan(sum(found.interval))


def test_training_that_does_what_supervised_training_does_is_seldom_beyond_it() -> None:
    runs = 300
    found = [beyond(*drawn(seed, 30, 0.0)).interval for seed in range(runs)]
    for count in (sum(low > 0 for low, _ in found), sum(high < 0 for _, high in found)):
        assert 0 < count <= stats.binom.isf(1e-4, runs, 0.025)


def test_shipped_online_rl_is_compared_with_shipped_supervised_training() -> None:
    pair, control = (load_comparison(Path("tests/stored") / name) for name in ("grpo", "sft-clean"))
    found = beyond_supervised(pair, control)
    assert (found.checkpoint, found.accuracy) == (control.after, control.accuracy.after)
    assert "accuracy" in repr(found)
    assert list(found.beyond) == list(ONLINE_RL)
    intensity = found.beyond["intensity"]
    assert intensity.interval[0] > 0
    assert intensity.questions == len(set(pair.question_ids) & set(control.question_ids))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"before": "other"}, "before is 'base' in pair 'made-up' and 'other' in its supervised control 'control'"),
        ({"questions": "sums"}, "questions is 'arithmetic' .* and 'sums'"),
        ({"granularity": "head"}, "granularity is 'sublayer' .* and 'head'"),
        ({"alpha": 0.9}, r"alpha is 0\.3 .* and 0\.9"),
        ({"profile": "online-rl", "algorithm": "ppo"}, "'control' has algorithm 'ppo', which is online RL"),
        (
            {"question_ids": tuple(f"r{i}" for i in range(40))},
            "share 0 of the questions compared, and at least 1 are wanted; ask more",
        ),
        ({"effects": {}}, "metric 'intensity' is not in pair 'control'"),
    ],
)
def test_faults_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        beyond_supervised(TEMPLATE, replace(CONTROL, **change))


def test_too_few_shared_questions_are_an_error() -> None:
    with pytest.raises(RLCircuitsError, match="share 40 of the questions compared, and at least 41 are wanted"):
        beyond_supervised(TEMPLATE, CONTROL, min_questions=41)
