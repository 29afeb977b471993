"""A pooled effect: its definition where that is known in closed form, its symmetries, and how often it covers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.synthetic_comparisons import made_up_comparison
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import paired_effect
from rlcircuits.comparison.pooling import PooledEffect, pool_effect, pool_effects

TEMPLATE = made_up_comparison(controls=())


def pair_of(
    before: np.ndarray, after: np.ndarray, base: str = "base", trained: str = "rl", questions: str = "sums"
) -> Comparison:
    """Return a comparison with these values of intensity and no other metric."""
    values = {"before_values": tuple(before.tolist()), "after_values": tuple(after.tolist())}
    effect = replace(TEMPLATE.effects["intensity"], questions=len(before), **values)
    names = {"name": f"{base}-{trained}-{questions}", "before": base, "after": trained, "questions": questions}
    return replace(TEMPLATE, effects={"intensity": effect}, **names)


def drawn_pairs(
    rng: np.random.Generator, clusters: int, *, between: float, sets: int = 1, questions: int = 30, uneven: bool = False
) -> list[Comparison]:
    """Return pairs whose true changes have a mean of 10 % and this standard deviation between the bases.

    If `uneven`, the pairs' numbers of questions differ up to fourfold.
    """
    pairs = []
    for cluster in range(clusters):
        of_base = 0.1 + between * rng.normal()
        for place in range(sets):
            of_pair = of_base + (sets > 1) * between / 2 * rng.normal()
            size = int(rng.integers(questions // 2, 2 * questions)) if uneven else questions
            before = rng.gamma(4, 0.25, size=size)
            after = before * (1 + of_pair) + rng.normal(0, 0.3, size=size)
            pairs.append(pair_of(before, after, f"base-{cluster}", f"rl-{cluster}", f"set-{place}"))
    return pairs


def change_of(pair: Comparison) -> float:
    effect = pair.effects["intensity"]
    return float(np.mean(effect.after_values) / np.mean(effect.before_values) - 1)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_the_estimate_of_one_pair_is_the_change_that_tables_show(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.normal(-3, 1, size=20), rng.normal(-2, 1, size=20)  # kurtosis may be negative
    before[3] = after[7] = np.nan
    pair = replace(TEMPLATE, effects={"kurtosis": paired_effect("kurtosis", before, after)})
    assert pool_effect([pair], "kurtosis").estimate == pytest.approx(pair.effects["kurtosis"].change)


def test_pairs_of_equal_size_have_students_interval_of_their_changes() -> None:
    pairs = drawn_pairs(np.random.default_rng(0), 6, between=0.3)
    changes = [change_of(pair) for pair in pairs]
    pooled = pool_effect(pairs, "intensity")
    wanted = stats.t.interval(0.95, 5, np.mean(changes), stats.sem(changes))
    assert pooled.estimate == pytest.approx(np.mean(changes), rel=1e-6)
    assert pooled.interval == pytest.approx(wanted, rel=1e-3)
    assert pooled.between_pair_sd == pytest.approx(np.std(changes, ddof=1), rel=0.1)
    assert (pooled.clusters, pooled.pairs, pooled.question_sets, pooled.questions) == (6, 6, 1, 180)
    assert pooled.bootstrap_interval is not None
    low, high = pooled.bootstrap_interval
    assert pooled.interval[0] < low < pooled.estimate < high < pooled.interval[1]


def test_question_sets_of_one_base_are_one_cluster() -> None:
    pairs = drawn_pairs(np.random.default_rng(1), 5, between=0.3, sets=2)
    of_bases = [np.mean([change_of(pair) for pair in pairs[i : i + 2]]) for i in range(0, 10, 2)]
    pooled = pool_effect(pairs, "intensity")
    wanted = stats.t.interval(0.95, 4, np.mean(of_bases), stats.sem(of_bases))
    assert (pooled.clusters, pooled.pairs, pooled.question_sets) == (5, 10, 2)
    assert pooled.interval == pytest.approx(wanted, abs=1e-3)


def test_copied_questions_do_not_narrow_the_interval_to_nothing() -> None:
    """Ten times the questions say nothing about the next training."""
    pairs = drawn_pairs(np.random.default_rng(2), 5, between=0.3)
    many = []
    for pair in pairs:
        effect = pair.effects["intensity"]
        before, after = (np.tile(values, 10) for values in (effect.before_values, effect.after_values))
        many.append(pair_of(before, after, pair.before, pair.after))
    once, tenfold = (pool_effect(each, "intensity").interval for each in (pairs, many))
    assert once is not None
    assert tenfold == pytest.approx(once, rel=1e-2)


DRAWN = st.builds(
    lambda seed, clusters, sets, between: drawn_pairs(
        np.random.default_rng(seed), clusters, sets=sets, between=between, questions=8, uneven=seed % 2 == 1
    ),
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from([0.0, 0.3]),
)


@settings(max_examples=15)
@given(DRAWN, st.randoms())
def test_the_order_of_pairs_does_not_matter(pairs: list[Comparison], shuffling: random.Random) -> None:
    shuffled = list(pairs)
    shuffling.shuffle(shuffled)
    assert pool_effect(shuffled, "intensity") == pool_effect(pairs, "intensity")


def moved(
    pairs: list[Comparison], change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> PooledEffect:
    """Return the pooled effect after changing every pair's values before and after."""
    changed = []
    for pair in pairs:
        effect = pair.effects["intensity"]
        both = change(np.asarray(effect.before_values), np.asarray(effect.after_values))
        changed.append(pair_of(*both, pair.before, pair.after, pair.questions))
    return pool_effect(changed, "intensity")


@settings(max_examples=15)
@given(DRAWN)
def test_up_and_down_are_treated_alike(pairs: list[Comparison]) -> None:
    up, down = pool_effect(pairs, "intensity"), moved(pairs, lambda before, after: (before, 2 * before - after))
    assert down.estimate == pytest.approx(-up.estimate, abs=2e-4)
    assert (up.interval is None) == (down.interval is None)
    if up.interval and down.interval:
        assert down.interval == pytest.approx((-up.interval[1], -up.interval[0]), abs=2e-3)


@settings(max_examples=15)
@given(DRAWN, st.sampled_from([1e-6, 7.0, 1e6]))
def test_the_metrics_unit_does_not_matter(pairs: list[Comparison], unit: float) -> None:
    ours, theirs = pool_effect(pairs, "intensity"), moved(pairs, lambda before, after: (unit * before, unit * after))
    assert theirs.estimate == pytest.approx(ours.estimate, abs=2e-4)
    if ours.interval:
        assert theirs.interval == pytest.approx(ours.interval, abs=2e-3)


@settings(max_examples=25)
@given(DRAWN)
def test_the_estimate_lies_among_the_pairs_changes(pairs: list[Comparison]) -> None:
    changes = [change_of(pair) for pair in pairs]
    pooled = pool_effect(pairs, "intensity")
    assert min(changes) - 1e-9 <= pooled.estimate <= max(changes) + 1e-9
    if pooled.interval:
        assert pooled.interval[0] <= pooled.estimate <= pooled.interval[1]


def test_one_or_two_clusters_have_no_interval_and_a_reason() -> None:
    pairs = drawn_pairs(np.random.default_rng(3), 2, between=0.3)
    for count, words in ((1, "1 base "), (2, "2 bases ")):
        pooled = pool_effect(pairs[:count], "intensity")
        assert pooled.interval is pooled.bootstrap_interval is None
        assert pooled.note is not None
        assert f"no interval, since {words}cannot show how much such pairs differ: at least 3 are needed" in pooled.note
        assert f"no interval over {words.strip()}" in pooled.words
    assert pool_effect(pairs[:1], "intensity").between_pair_sd is None


def test_trainings_from_one_base_can_be_the_clusters() -> None:
    drawn = drawn_pairs(np.random.default_rng(4), 4, between=0.3)
    pairs = [replace(pair, before="the base") for pair in drawn]
    by_base = pool_effect(pairs, "intensity")
    assert (by_base.clusters, by_base.interval) == (1, None)
    assert 'cluster_by="training" for an interval over the 4 trainings' in str(by_base.note)
    by_training = pool_effect(pairs, "intensity", cluster_by="training")
    assert (by_training.clusters, by_training.cluster_by) == (4, "training")
    assert by_training.interval == pool_effect(drawn, "intensity").interval
    assert by_training.words.endswith("over 4 trainings (4 pairs)")


def test_pairs_that_do_not_differ_are_said_not_to() -> None:
    rng = np.random.default_rng(5)
    before = rng.gamma(4, 0.25, size=30)
    after = 1.2 * before + rng.normal(0, 0.1, size=30)
    pooled = pool_effect([pair_of(before, after, f"base-{i}") for i in range(4)], "intensity")
    assert pooled.between_pair_sd == 0
    assert "the pairs do not differ by more than their questions' sampling error" in str(pooled.note)
    low, high = pooled.interval or (0, 0)
    assert low < pooled.estimate < high, "the questions' sampling error is left"


def test_values_without_any_spread_have_a_result() -> None:
    before = np.linspace(1, 2, 10)
    same = pool_effect([pair_of(before, 1.5 * before, f"base-{i}") for i in range(3)], "intensity")
    assert same.estimate == pytest.approx(0.5)
    assert same.interval == pytest.approx((0.5, 0.5))
    changes = (0.1, 0.2, 0.6)
    apart = [pair_of(before, (1 + change) * before, f"base-{i}") for i, change in enumerate(changes)]
    pooled = pool_effect(apart, "intensity")
    assert pooled.estimate == pytest.approx(0.3)
    assert pooled.interval == pytest.approx(stats.t.interval(0.95, 2, 0.3, stats.sem(changes)), rel=1e-3)


def test_every_gate_metric_is_pooled() -> None:
    pooled = pool_effects([made_up_comparison(controls=())])
    assert list(pooled) == ["intensity", "complexity", "kurtosis"]
    assert repr(pooled["intensity"]).startswith("PooledEffect(intensity: +")


def test_faults_are_named() -> None:
    ones = np.ones(5)
    pair = pair_of(ones, 2 * ones)
    with pytest.raises(RLCircuitsError, match="comparisons is empty"):
        pool_effect([], "intensity")
    with pytest.raises(RLCircuitsError, match="algorithms are dpo, grpo; pool those of one"):
        pool_effect([pair, replace(pair, algorithm="dpo")], "intensity")
    with pytest.raises(
        RLCircuitsError, match="'base-rl-sums' and 'again' are the same checkpoints on the same questions"
    ):
        pool_effect([pair, replace(pair, name="again")], "intensity")
    with pytest.raises(RLCircuitsError, match="metric is 'kurtosis'; pair 'base-rl-sums' has intensity"):
        pool_effect([pair], "kurtosis")
    with pytest.raises(RLCircuitsError, match=r"mean intensity before of 0\.0"):
        pool_effect([pair_of(0 * ones, ones)], "intensity")
    with pytest.raises(RLCircuitsError, match="mean intensity before of nan"):
        pool_effect([pair_of(np.nan * ones, ones)], "intensity")


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.0, 0.3])
@pytest.mark.parametrize(("clusters", "sets"), [(3, 1), (5, 2), (10, 1)])
def test_the_interval_covers_the_true_mean_in_95_percent_of_studies(between: float, clusters: int, sets: int) -> None:
    """The questions' sampling error of a pair's change is about 0.055 here."""
    studies = 100
    rng = np.random.default_rng(clusters * 10 + sets)
    covered = 0
    for _ in range(studies):
        interval = pool_effect(
            drawn_pairs(rng, clusters, sets=sets, between=between, uneven=True), "intensity"
        ).interval
        assert interval is not None
        covered += interval[0] <= 0.1 <= interval[1]
    assert covered >= stats.binom.isf(1 - 1e-4, studies, 0.95)
