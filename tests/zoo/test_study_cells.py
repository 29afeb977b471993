"""The cells of the studies' tables: a mean over the bases, and its interval."""

from __future__ import annotations

import sys

import numpy as np
from helpers.paths import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

sys.path.insert(0, str(ROOT))

from fixtures.study.circuits import interval_cell


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=5))
def test_numbers_that_cancel_have_the_mean_zero(numbers: list[float]) -> None:
    cell = interval_cell([*numbers, *(-each for each in numbers)], ".2g")
    assert cell.startswith("0 [")


@given(st.lists(st.floats(1.0, 1e3), min_size=2, max_size=5, unique=True))
def test_a_mean_over_bases_has_students_interval(numbers: list[float]) -> None:
    low, high = stats.t.interval(0.95, len(numbers) - 1, loc=np.mean(numbers), scale=stats.sem(numbers))
    found = [float(each.strip("[],")) for each in interval_cell(numbers, ".6g").split()]
    np.testing.assert_allclose(found, [np.mean(numbers), low, high], rtol=1e-5, atol=1e-9)


def test_one_base_has_no_interval() -> None:
    assert interval_cell([0.25]) == "0.25"
