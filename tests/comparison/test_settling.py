"""How many questions would settle a p-value: by the textbook's formula, and none where that is beyond all measure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlcircuits.comparison.power import MOST_QUESTIONS
from rlcircuits.comparison.settling import questions_for_level


@given(st.floats(0.05, 0.49), st.integers(20, 2000), st.sampled_from([0.001, 0.01, 0.05]))
def test_on_so_many_questions_the_effect_seen_is_significant_with_that_power(
    p: float, questions: int, level: float
) -> None:
    needed = questions_for_level(p, questions, level, power=0.9)
    assert needed is not None
    statistic = stats.norm.isf(p) * (needed / questions) ** 0.5
    assert stats.norm.sf(stats.norm.isf(level) - statistic) == pytest.approx(0.9, abs=0.02)


@given(st.floats(0.05, 1), st.integers(1, MOST_QUESTIONS), st.sampled_from([0.001, 0.01, 0.05]))
def test_more_than_a_billion_questions_are_no_number(p: float, questions: int, level: float) -> None:
    needed = questions_for_level(p, questions, level)
    assert needed is None or needed <= MOST_QUESTIONS + 1


@pytest.mark.parametrize("p", [0.5, 0.9, 1.0, 0.499999])
def test_no_number_settles_what_is_hardly_an_effect(p: float) -> None:
    assert questions_for_level(p, 400, 0.01) is None
