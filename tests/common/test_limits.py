"""Numbers that a user gives: what is allowed at either end, and what is not beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import LIMITS, check_number
from rlcircuits.release.settings import Settings


@pytest.mark.parametrize("name", LIMITS)
def test_both_ends_are_allowed_and_what_lies_beyond_is_not(name: str) -> None:
    limits = LIMITS[name]
    step = 1 if limits.whole else 1e-9
    check_number(name, limits.most)
    check_number(name, limits.least + (step if limits.above else 0))
    for value in (limits.most + max(step, limits.most * 1e-9), limits.least if limits.above else limits.least - step):
        with pytest.raises(RLCircuitsError, match=f"^--{name} is .* is wanted"):
            check_number(name, type(step)(value), f"--{name}")


@given(st.floats(0.01, 100), st.floats(0, 1, exclude_min=True), st.integers(1, 10_000))
def test_usual_sampling_is_allowed(temperature: float, top_p: float, n: int) -> None:
    assert Sampling(temperature, top_p, n=n).n == n


def test_greedy_decoding_and_whole_numbers_for_others_are_allowed() -> None:
    assert Sampling(temperature=0).temperature == 0
    assert Sampling(temperature=1, top_p=1).top_p == 1
    assert Settings(balance=0, alpha=1, noise_draws=0, k=20).k == 20


@pytest.mark.parametrize("value", [True, "3", None, 2.5, [3]])
def test_a_whole_number_is_wanted(value: object) -> None:
    with pytest.raises(RLCircuitsError, match=r"^k is .*; a whole number from 1 to 1,000,000,000 is wanted"):
        check_number("k", value)
