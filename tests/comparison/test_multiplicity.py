"""A release over many pairs: Holm's correction by its definition, and how often harmless releases fail."""

from __future__ import annotations

import gc
import importlib
import itertools
import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.multiplicity import RELEASE_LEVEL, PairOutcome, combine_evidence, judge_release
from rlcircuits.comparison.outcome import OUTCOMES, Outcome


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> None:
    """Keep what is imported out of the garbage collection that statsmodels starts at every correction."""
    importlib.import_module("statsmodels.stats.multitest")
    gc.freeze()


P = st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.025, 0.05, 1.0])
PAIRS = st.lists(st.tuples(st.sampled_from(OUTCOMES), P), min_size=1, max_size=6).map(
    lambda drawn: [PairOutcome(f"pair-{i}", outcome, p) for i, (outcome, p) in enumerate(drawn)]
)


def by_closed_testing(p_values: list[float]) -> list[float]:
    """Return Holm's corrected p by its definition: the largest Bonferroni p of any family that holds the hypothesis."""
    places = range(len(p_values))
    families = [family for size in places for family in itertools.combinations(places, size + 1)]
    return [
        max(min(1.0, len(family) * min(p_values[i] for i in family)) for family in families if place in family)
        for place in places
    ]


@given(PAIRS)
def test_evidence_is_corrected_by_closed_testing_with_bonferroni(pairs: list[PairOutcome]) -> None:
    found = [each.p_corrected for each in judge_release(pairs).pairs]
    assert found == pytest.approx(by_closed_testing([pair.p_against for pair in pairs]), rel=1e-12)


@given(PAIRS, st.sampled_from([0.01, 0.05, 0.2]))
def test_the_outcome_follows_from_the_rule(pairs: list[PairOutcome], level: float) -> None:
    corrected = by_closed_testing([pair.p_against for pair in pairs])
    alone = len(pairs) == 1
    fails = [pair.outcome == "does not hold" and (alone or p < level) for pair, p in zip(pairs, corrected, strict=True)]
    if any(fails):
        wanted = "does not hold"
    elif {pair.outcome for pair in pairs} == {"holds"}:
        wanted = "holds"
    else:
        wanted = "inconclusive"
    assert judge_release(pairs, level=level).outcome == wanted


@given(PAIRS, st.randoms())
def test_the_order_of_pairs_does_not_matter(pairs: list[PairOutcome], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ours, theirs = judge_release(pairs), judge_release(shuffled)
    assert ours.outcome == theirs.outcome
    assert {each.pair.name: each for each in ours.pairs} == {each.pair.name: each for each in theirs.pairs}


@given(PAIRS, P)
def test_a_further_pair_that_holds_never_makes_a_release_fail(pairs: list[PairOutcome], p: float) -> None:
    more = [*pairs, PairOutcome("further", "holds", p)]
    if judge_release(more).outcome == "does not hold":
        assert judge_release(pairs).outcome == "does not hold"


@given(st.sampled_from(OUTCOMES), P)
def test_a_release_of_one_pair_is_judged_as_the_pair(outcome: Outcome, p: float) -> None:
    assert judge_release([PairOutcome("only", outcome, p)]).outcome == outcome


@given(st.dictionaries(st.sampled_from("abcd"), P, min_size=1))
def test_evidence_by_measures_is_combined_by_holms_smallest(p_values: dict[str, float]) -> None:
    assert combine_evidence(p_values) == pytest.approx(min(by_closed_testing(list(p_values.values()))))


def test_a_pair_that_asserts_nothing_has_no_evidence_against_it() -> None:
    assert combine_evidence({}) == 1


@pytest.mark.parametrize("pairs", [1, 5, 40])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_harmless_releases_fail_at_the_level_however_many_pairs_they_have(pairs: int, shared: float) -> None:
    """Each pair fails on its own where p < 0.05; `shared` is the correlation of the pairs' test statistics."""
    releases = 600
    rng = np.random.default_rng(pairs)
    common, own = rng.normal(size=(releases, 1)), rng.normal(size=(releases, pairs))
    p_values = stats.norm.sf(math.sqrt(shared) * common + math.sqrt(1 - shared) * own)
    failed = uncorrected = 0
    for row in p_values:
        judged = [PairOutcome(f"{i}", "does not hold" if p < 0.05 else "holds", p) for i, p in enumerate(row.tolist())]
        failed += judge_release(judged).outcome == "does not hold"
        uncorrected += any(pair.outcome == "does not hold" for pair in judged)
    assert failed <= stats.binom.isf(1e-4, releases, RELEASE_LEVEL)
    if pairs == 1:
        assert failed == uncorrected > 0
    else:
        assert uncorrected > 1.4 * failed, "without the correction such releases fail more often"


def test_one_clear_failure_among_many_pairs_fails_the_release() -> None:
    pairs = [PairOutcome(f"good-{i}", "holds", 0.8) for i in range(19)] + [PairOutcome("bad", "does not hold", 1e-4)]
    release = judge_release(pairs)
    assert [each.pair.name for each in release.failing] == ["bad"]
    assert release.words == "does not hold: 1 of 20 pairs: bad (does not hold, p = 0.002 corrected over all pairs)"


def test_a_failure_that_is_not_rare_among_so_many_pairs_leaves_the_release_inconclusive() -> None:
    pairs = [PairOutcome(f"good-{i}", "holds", 0.8) for i in range(19)] + [PairOutcome("odd", "does not hold", 0.03)]
    release = judge_release(pairs)
    assert release.failing == ()
    assert [each.pair.name for each in release.undecided] == ["odd"]
    words = "inconclusive: 1 of 20 pairs: odd (does not hold, but p = 0.03 is 0.6 corrected over all pairs)"
    assert release.words == words


def test_a_release_holds_in_words() -> None:
    pairs = [PairOutcome("a", "holds", 1.0), PairOutcome("b", "holds", 0.3)]
    assert judge_release(pairs).words == "holds: all 2 pairs do"
    assert judge_release(pairs[:1]).words == "holds: the only pair does"
    assert "all 2 pairs" in repr(judge_release(pairs))


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1, math.inf])
def test_evidence_outside_0_and_1_is_an_error(p: float) -> None:
    with pytest.raises(RLCircuitsError, match=r"pair 'a': p_against is .*; a number from 0 to 1 is wanted"):
        PairOutcome("a", "holds", p)
    with pytest.raises(RLCircuitsError, match=r"p of accuracy is .*; a number from 0 to 1 is wanted"):
        combine_evidence({"accuracy": p})


def test_faults_of_a_release_are_named() -> None:
    pair = PairOutcome("a", "holds", 0.5)
    with pytest.raises(RLCircuitsError, match="pairs is empty"):
        judge_release([])
    with pytest.raises(RLCircuitsError, match="two pairs are named 'a'"):
        judge_release([pair, pair])
    with pytest.raises(RLCircuitsError, match="level is 5"):
        judge_release([pair], level=5.0)
    with pytest.raises(RLCircuitsError, match="outcome is 'fine'"):
        PairOutcome("a", "fine", 0.5)  # type: ignore[arg-type]


def test_the_outcomes_are_those_of_the_type() -> None:
    assert get_args(Outcome) == OUTCOMES
