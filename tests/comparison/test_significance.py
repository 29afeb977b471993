"""How p is written: short, and rounding never moves it across a level."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL, format_p, p_in_words

NEAR = st.sampled_from([SIGNIFICANCE_LEVEL, ACCURACY_LEVEL]).flatmap(
    lambda level: st.floats(-1e-3, 1e-3).map(lambda off: max(level + off * off * math.copysign(1, off), 0.0))
)


@given(st.floats(0, 1) | NEAR)
@example(0.00996)
@example(0.0104)
@example(0.0496)
@example(0.0504)
@example(math.nextafter(SIGNIFICANCE_LEVEL, 0))
@example(math.nextafter(ACCURACY_LEVEL, 1))
def test_p_is_shown_on_its_own_side_of_each_level(p: float) -> None:
    for text in (format_p(p), p_in_words(p)):
        for level in (SIGNIFICANCE_LEVEL, ACCURACY_LEVEL):
            assert (float(text) < level) == (p < level), text
            assert (float(text) == level) == (p == level), text
        assert float(text) == pytest.approx(p, rel=0.5, abs=0.005)


@pytest.mark.parametrize(
    ("p", "in_table", "in_words"),
    [
        (3.4e-19, "3e-19", "3.4e-19"),
        (0.0, "0e+00", "0"),
        (0.004, "4e-03", "0.004"),
        (0.0099, "9.9e-03", "0.0099"),
        (0.00996, "9.96e-03", "0.00996"),
        (0.01, "0.01", "0.01"),
        (0.0104, "0.0104", "0.0104"),
        (0.02, "0.02", "0.02"),
        (0.0156, "0.02", "0.016"),
        (0.0496, "0.0496", "0.0496"),
        (0.05, "0.05", "0.05"),
        (0.33, "0.33", "0.33"),
        (1.0, "1.00", "1"),
        (math.nan, "nan", "nan"),
    ],
)
def test_p_is_short_where_it_may_be(p: float, in_table: str, in_words: str) -> None:
    assert (format_p(p), p_in_words(p)) == (in_table, in_words)
