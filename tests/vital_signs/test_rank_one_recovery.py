"""The rank-1 checkpoint's share of the gain: hand cases, identities, and where it means nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.vital_signs.counts import Counts
from rlcircuits.vital_signs.rank_one_recovery import rank1_recovery


def counts(right: list[int], answers: int = 1, first: int = 0) -> Counts:
    ids = tuple(f"q{first + place}" for place in range(len(right)))
    return Counts(ids, np.array(right, dtype=np.int64), np.full(len(right), answers, dtype=np.int64))


def test_by_hand() -> None:
    """40 questions: 10 right before, 30 after, and 25 with the rank-1 checkpoint: (25 − 10) / (30 − 10)."""
    before, rank1, after = (counts([1] * right + [0] * (40 - right)) for right in (10, 25, 30))
    sign = rank1_recovery(before, rank1, after)
    assert (sign.outcome, sign.change, sign.questions) == ("reported", pytest.approx(0.75), 40)
    assert sign.interval is not None
    assert 0.4 < sign.interval[0] < 0.75 < sign.interval[1] < 1
    wanted = {"accuracy_before": 0.25, "accuracy_rank1": 0.625, "accuracy_after": 0.75, "gain": 0.5}
    assert wanted.items() <= sign.details.items()


rights = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=8, max_size=40)


rises = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(2, 4)), min_size=8, max_size=40)


@given(rises)
def test_all_of_the_gain_and_none_of_it(rows: list[tuple[int, int, int]]) -> None:
    before, rank1, after = (counts([row[side] for row in rows], 4) for side in range(3))
    sign = rank1_recovery(before, rank1, after)
    assume(sign.outcome == "reported")
    low, high = sign.interval or (0, 0)
    assert low <= (sign.change or 0) <= high
    whole, none = rank1_recovery(before, after, after), rank1_recovery(before, before, after)
    assert (whole.change, whole.interval) == (1, (1, 1))
    assert none.change == 0
    gain = (after.shares - before.shares).mean()
    assert sign.change == pytest.approx((rank1.shares - before.shares).mean() / gain)


@given(rights)
def test_a_gain_that_may_be_zero(rows: list[tuple[int, int, int]]) -> None:
    before, rank1, after = (counts([row[side] for row in rows], 4) for side in range(3))
    sign = rank1_recovery(before, rank1, after)
    low, high = sign.details["gain_interval"]  # type: ignore[misc]
    assert (sign.outcome == "not measurable") == (low <= 0 <= high)
    assert (sign.change is None) == (sign.outcome == "not measurable")
    same = rank1_recovery(before, rank1, before)
    assert (same.outcome, same.change) == ("not measurable", None)
    assert "may be zero" in same.note


def test_a_loss_has_a_share_too() -> None:
    before, rank1, after = (counts([1] * right + [0] * (40 - right)) for right in (30, 20, 10))
    assert rank1_recovery(before, rank1, after).change == pytest.approx(0.5)


def test_resamples_without_gain_do_not_break_the_interval() -> None:
    """Every gained question is left out of some resamples, whose ratio is 0/0 or infinite."""
    before, after = counts([0] * 5 + [1] * 25), counts([1] * 5 + [1] * 25)
    rank1 = counts([0] * 5 + [0] * 2 + [1] * 23)
    interval = rank1_recovery(before, rank1, after).interval
    assert interval is not None
    assert not any(map(math.isnan, interval))


def test_only_questions_that_all_three_answered() -> None:
    before, rank1, after = counts([0] * 20), counts([1] * 18, first=2), counts([1] * 19, first=1)
    assert rank1_recovery(before, rank1, after).questions == 18
    with pytest.raises(RLCircuitsError, match="no question in common"):
        rank1_recovery(before, counts([1], first=50), after)
