"""pass@k, silent groups and lost questions against enumeration, closed forms, and passk-inference."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import passk_inference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.vital_signs.boundary import all_of_k, boundary_sign, lost_questions_sign, pass_at_k, pass_at_k_band
from rlcircuits.vital_signs.counts import Counts, common_counts, count_right
from rlcircuits.vital_signs.silent_groups import signal_left, silent_share, silent_sign
from tests.helpers.answer_makers import make_answers


def counts_of(right: list[int], n: int) -> Counts:
    names = tuple(f"q{index}" for index in range(len(right)))
    return Counts(names, np.array(right), np.full(len(right), n))


@st.composite
def counts(draw: st.DrawFn, most: int = 8) -> Counts:
    n = draw(st.integers(2, most))
    return counts_of(draw(st.lists(st.integers(0, n), min_size=2, max_size=6)), n)


@given(counts(), st.data())
def test_shares_of_subsets(found: Counts, data: st.DataObject) -> None:
    """pass@k, pass^k and the silent share are shares of all subsets of k answers."""
    n = found.fewest
    k = data.draw(st.integers(1, n))
    passed, all_right, dead = [], [], []
    for right in found.right:
        subsets = [sum(each) for each in combinations([1] * int(right) + [0] * (n - int(right)), k)]
        passed.append(np.mean([total > 0 for total in subsets]))
        all_right.append(np.mean([total == k for total in subsets]))
        dead.append(np.mean([total == 0 for total in subsets]))
    np.testing.assert_allclose(pass_at_k(found, k), passed, atol=1e-12)
    np.testing.assert_allclose(all_of_k(found, k), all_right, atol=1e-12)
    np.testing.assert_allclose(silent_share(found, k), [all_right, dead], atol=1e-12)
    np.testing.assert_allclose(sum(silent_share(found, k)), 1 - pass_at_k(found, k) + all_of_k(found, k), atol=1e-12)


@given(counts())
def test_pass_at_k_rises_and_is_concave(found: Counts) -> None:
    curve = np.stack([pass_at_k(found, k) for k in range(1, found.fewest + 1)])
    np.testing.assert_allclose(curve[0], found.shares, atol=1e-12)
    np.testing.assert_allclose(curve[-1], found.right > 0, atol=1e-12)
    steps = np.diff(curve, axis=0)
    assert (steps >= -1e-12).all()
    assert (np.diff(steps, axis=0) <= 1e-12).all()


def test_by_hand() -> None:
    assert pass_at_k(counts_of([3], 8), 5)[0] == pytest.approx(1 - 1 / 56)
    assert sum(silent_share(counts_of([7], 8), 4))[0] == pytest.approx(0.5)
    assert signal_left(counts_of([7], 8))[0] == pytest.approx(0.6614, abs=1e-4)


@given(counts())
def test_signal_is_the_mean_standardised_advantage(found: Counts) -> None:
    for right, signal in zip(found.right, signal_left(found), strict=True):
        rewards = np.array([1.0] * int(right) + [0.0] * (found.fewest - int(right)))
        spread = rewards.std()
        advantage = (rewards - rewards.mean()) / spread if spread else np.zeros_like(rewards)
        assert np.abs(advantage).mean() == pytest.approx(signal)


@given(st.integers(2, 12), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=40))
def test_band_as_passk_inference(n: int, pairs: list[tuple[int, int]]) -> None:
    """Curves are the same; the band is of the same kind, with other random multipliers."""
    before = counts_of([min(left, n) for left, _ in pairs], n)
    after = counts_of([min(right, n) for _, right in pairs], n)
    ours = pass_at_k_band(before, after)
    theirs = passk_inference.compare(before.right, before.answers, after.right, after.answers, bootstrap=9999)
    np.testing.assert_allclose(ours.before, theirs["base_pass_at_k"], atol=1e-12)
    np.testing.assert_allclose(ours.after, theirs["rl_pass_at_k"], atol=1e-12)
    # The quantile of ten thousand draws has an error of about 1.5 % of the band's half width, on both sides.
    half_width = (np.array(theirs["upper"]) - np.array(theirs["lower"])) / 2
    assert (np.abs(ours.lower - theirs["lower"]) <= 0.1 * half_width + 1e-9).all()
    assert (np.abs(ours.upper - theirs["upper"]) <= 0.1 * half_width + 1e-9).all()


def test_a_narrowed_model_is_in_trouble() -> None:
    """Before solves each question now and then; after solves half of them always, and the others never."""
    before, after = counts_of([3] * 80, 16), counts_of([16, 0] * 40, 16)
    sign = boundary_sign(before, after)
    assert sign.outcome == "trouble"
    assert sign.before == 1.0
    assert sign.after == 0.5
    assert 16 in sign.details["falls_at"]
    assert 1 not in sign.details["falls_at"]
    assert lost_questions_sign(before, after).outcome == "trouble"


@given(counts())
def test_same_answers_give_no_alarm(found: Counts) -> None:
    assert boundary_sign(found, found).outcome in ("no alarm", "no room")
    assert lost_questions_sign(found, found).outcome in ("no alarm", "no room")


def test_false_alarms_are_rare() -> None:
    """Over models whose rates are alike, the boundary alarms about as rarely as its level says."""
    rng = np.random.default_rng(0)
    alarms = lost = 0
    for _ in range(150):
        rates = rng.beta(0.5, 0.5, 60)
        before, after = (counts_of(rng.binomial(16, rates).tolist(), 16) for _ in range(2))
        alarms += boundary_sign(before, after).outcome == "trouble"
        lost += lost_questions_sign(before, after).outcome == "trouble"
    assert alarms <= 5
    assert lost <= 5


def test_saturated_is_no_room() -> None:
    full = counts_of([8] * 50, 8)
    assert boundary_sign(full, counts_of([7] * 50, 8)).outcome == "no room"


def test_one_answer_is_not_measurable() -> None:
    one = counts_of([1, 0, 1], 1)
    assert boundary_sign(one, one).outcome == "not measurable"
    assert silent_sign(one, one).outcome == "not measurable"


def test_bad_k_and_counts_are_told() -> None:
    with pytest.raises(RLCircuitsError, match="k is 9; it must be from 1 to 8"):
        pass_at_k(counts_of([1], 8), 9)
    with pytest.raises(RLCircuitsError, match="9 right answers of 8"):
        counts_of([9], 8)


def test_counts_of_answers_and_common_questions() -> None:
    before = count_right(make_answers({"a": [True, False], "b": [True, True]}))
    after = count_right(make_answers({"b": [False, False, True], "c": [True]}))
    ours, theirs = common_counts(before, after)
    assert ours.questions == theirs.questions == ("b",)
    assert (ours.right.tolist(), theirs.answers.tolist()) == ([2], [3])
    with pytest.raises(RLCircuitsError, match="no question in common"):
        common_counts(before, count_right(make_answers({"x": [True]})))
