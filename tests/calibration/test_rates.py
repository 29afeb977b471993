"""Rates of a calibration, against definitions of their own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.calibration.rates import agreement, event_rate
from rlcircuits.comparison.outcome import OUTCOMES, Outcome

OF_A_PAIR = st.lists(st.sampled_from(OUTCOMES), min_size=2, max_size=6)


@given(st.dictionaries(st.text(max_size=2), OF_A_PAIR, min_size=1, max_size=4))
def test_two_runs_drawn_from_a_pair_disagree_as_often_as_said(outcomes: dict[str, Sequence[Outcome]]) -> None:
    found = agreement(outcomes)
    differ, contradict = [], []
    for each in outcomes.values():
        twos = [(a, b) for i, a in enumerate(each) for j, b in enumerate(each) if i != j]
        differ.append(sum(a != b for a, b in twos) / len(twos))
        contradict.append(sum({a, b} == {"holds", "does not hold"} for a, b in twos) / len(twos))
    assert found.differ == pytest.approx(sum(differ) / len(differ))
    assert found.contradict == pytest.approx(sum(contradict) / len(contradict))
    assert found.contradict <= found.differ
    assert found.runs == sum(map(len, outcomes.values()))


def test_a_pair_with_one_run_says_nothing_about_agreement() -> None:
    found = agreement({"once": ["holds"], "twice": ["holds", "inconclusive"]})
    assert (found.pairs, found.runs, found.differ, found.contradict) == (1, 2, 1.0, 0.0)


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_interval_is_clopper_and_pearsons(count: int, more: int) -> None:
    total = count + more
    low, high = event_rate(count, total).interval
    assert high == pytest.approx(stats.beta.ppf(0.975, count + 1, total - count))
    assert low == (0 if count == 0 else pytest.approx(stats.beta.ppf(0.025, count, total - count + 1)))


def test_a_rate_in_words() -> None:
    assert event_rate(0, 600).words == "0/600 [0, 0.6 %]"
    assert event_rate(0, 0).words == "0/0 [0, 100 %]"
