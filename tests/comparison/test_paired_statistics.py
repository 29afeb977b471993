"""The signed-rank test and the bootstrap interval agree with their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from rlcircuits.comparison.paired_statistics import (
    BOOTSTRAP_SEED,
    EXACT_UP_TO,
    RESAMPLES,
    mean_intervals,
    signed_rank,
    signed_rank_columns,
)

SIDES = ("greater", "less", "two-sided")


def by_counting(difference: np.ndarray, side: str) -> float:
    """Return p by its definition: the share of all assignments of signs whose rank sum is at least as extreme."""
    changed = difference != 0
    ranks = stats.rankdata(np.abs(difference))[changed]
    rose = ranks[difference[changed] > 0].sum()
    sums = np.array([ranks[list(signs)].sum() for signs in itertools.product((False, True), repeat=len(ranks))])
    greater, less = np.mean(sums >= rose - 1e-9), np.mean(sums <= rose + 1e-9)
    return float({"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[side])


@pytest.mark.parametrize("side", SIDES)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.integers(0, 40))
def test_the_signed_rank_test_is_its_definition_with_ties_and_zeros(side: str, values: list[int], zeros: int) -> None:
    difference = np.array(values + [0] * zeros, dtype=float)
    wanted = by_counting(difference, side) if difference.any() else 1
    assert signed_rank(difference, side) == pytest.approx(wanted, rel=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", [5, 20, 45])
def test_without_ties_and_zeros_it_is_scipys_exact_test(side: str, size: int) -> None:
    rng = np.random.default_rng(size)
    for shift in (0, 0.3, 1):
        difference = rng.normal(shift, size=size)
        wanted = stats.wilcoxon(difference, method="exact", alternative=side).pvalue
        assert signed_rank(difference, side) == pytest.approx(wanted, rel=1e-12)  # type: ignore[arg-type]


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(0, 12), st.integers(0, 6)), elements=st.integers(-4, 4)),
    st.floats(0, 1),
)
def test_many_columns_are_tested_as_each_alone(values: np.ndarray, spread: float) -> None:
    """Columns with ties and zeros, and columns without."""
    noise = np.random.default_rng(0).normal(size=values.shape)
    difference = values + np.where(np.arange(values.shape[1]) % 2, spread * noise, 0)
    found = signed_rank_columns(difference)
    assert found.tolist() == pytest.approx([signed_rank(column, "two-sided") for column in difference.T], abs=1e-12)


def test_columns_beyond_the_exact_test_are_approximated_too() -> None:
    difference = np.random.default_rng(0).normal(0.1, 1, (EXACT_UP_TO + 1, 2))
    assert list(signed_rank_columns(difference)) == [signed_rank(column, "two-sided") for column in difference.T]


@pytest.mark.parametrize("changed", [1, 2, 6, 7, 30, 100])
@pytest.mark.parametrize("zeros", [0, 10, 1000])
def test_where_few_questions_changed_and_all_rose(changed: int, zeros: int) -> None:
    """One of 2**changed assignments of signs is as extreme, whatever the magnitudes."""
    difference = np.array([0.0] * zeros + list(range(1, changed + 1)))
    assert signed_rank(difference, "greater") == pytest.approx(0.5**changed, rel=1e-9)
    assert signed_rank(difference, "less") == pytest.approx(1)


@pytest.mark.parametrize("zeros", [0, 300])
def test_the_approximation_takes_over_where_it_is_close(zeros: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        difference = np.concatenate([np.zeros(zeros), rng.normal(0.09, 1, size=EXACT_UP_TO)])
        approximate = stats.wilcoxon(difference, zero_method="pratt", alternative="greater", method="asymptotic").pvalue
        assert signed_rank(difference, "greater") == pytest.approx(approximate, rel=0.03)


VALUES = arrays.arrays(
    np.float64,
    st.integers(2, 30),
    elements=st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, 1.0, 1 + 2.3e-16, 1 - 1.2e-16, 5e-324, 1e-200, 1e300, -1e300]),
    ),
)


@settings(max_examples=60)
@given(VALUES)
@pytest.mark.filterwarnings("error")
def test_an_interval_of_finite_numbers_is_finite_and_among_them(values: np.ndarray) -> None:
    low, high = mean_intervals({"m": values})["m"]
    margin = 1e-12 * (np.abs(values / 4).max())
    assert values.min() / 4 - margin <= low / 4 <= high / 4 <= values.max() / 4 + margin


@settings(max_examples=30)
@given(VALUES.filter(lambda values: np.ptp(values / 4) > 0), st.integers(-300, 300))
def test_an_interval_moves_with_the_unit(values: np.ndarray, power: int) -> None:
    exponent = int(np.frexp(np.abs(values).max())[1])
    moved = np.ldexp(values, power - exponent)
    if np.any(np.ldexp(moved, exponent - power) != values):  # what is too small for the unit
        return
    if exponent < -960:  # the interval's ends then round to multiples of the smallest float
        return
    low, high = mean_intervals({"m": values})["m"]
    found = mean_intervals({"m": moved})["m"]
    assert found == (math.ldexp(low, power - exponent), math.ldexp(high, power - exponent))


def test_numbers_that_differ_in_the_last_digit_have_an_interval() -> None:
    low, high = mean_intervals({"m": np.array([1.0] * 19 + [1.0 + 2.3e-16])})["m"]
    assert 1 <= low <= high <= 1 + 2.3e-16


@settings(max_examples=30)
@given(st.integers(2, 10), st.integers(2, 450) | st.just(900), st.integers(0, 2**32 - 1))
def test_intervals_are_those_of_scipys_bootstrap_bit_by_bit(arrays_: int, count: int, seed: int) -> None:
    """Whether the draws were kept from an earlier call, or are too many to be kept (900)."""
    values = np.random.default_rng(seed).uniform(size=(arrays_, count))
    values[:, 0], values[:, 1] = 0.0, 1.0  # from 0 to 1, so that nothing is scaled
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    own = stats.bootstrap((values,), np.mean, axis=-1, n_resamples=RESAMPLES, batch=200, method="BCa", rng=rng)
    found = mean_intervals({str(place): row for place, row in enumerate(values)})
    ends = zip(own.confidence_interval.low, own.confidence_interval.high, strict=True)
    assert list(found.values()) == [(float(low), float(high)) for low, high in ends]
