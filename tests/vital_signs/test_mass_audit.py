"""The mass audit: identities of importance weights on a policy whose answers can all be enumerated."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.log_prob_tables import made_answers, made_table
from helpers.tiny_models import build
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, RLCircuitsError
from rlcircuits.vital_signs.counts import Counts, count_right
from rlcircuits.vital_signs.mass_audit import LOWEST, effective_share, mass_audit, weigh_answers
from rlcircuits.vital_signs.scored_answers import scored_answers
from rlcircuits.vital_signs.token_log_probs import answer_log_probs

V = 3
ALL = tuple(itertools.product(range(V), repeat=2))
"""All answers of two tokens over three tokens."""


@cache
def policy(seed: int, temperature: float) -> Any:
    """The table of all answers to one prompt, of a model with three tokens."""
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    model = build("gpt2", seed=seed, dtype=torch.float64, vocab_size=V, **ids)
    return answer_log_probs(model, [AnswerSequence((1, 2), each) for each in ALL], temperature=temperature)


@settings(max_examples=20)
@given(
    seeds=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    temperature=st.sampled_from((0.5, 1.0, 2.0)),
    right=st.lists(st.booleans(), min_size=len(ALL), max_size=len(ALL)),
)
def test_weights_have_mean_one_and_give_the_accuracy_after(
    seeds: tuple[int, int], temperature: float, right: list[bool]
) -> None:
    assume(any(right) and not all(right))
    before, after = (policy(seed, temperature) for seed in seeds)
    audit = weigh_answers(before, after)
    old, new, marks = np.exp(audit.before), np.exp(audit.after), np.array(right)
    assert old.sum() == pytest.approx(1, abs=1e-12)
    assert (old * np.exp(audit.gain)).sum() == pytest.approx(1, abs=1e-12)  # E_before[exp ℓ] = 1
    share = old[marks].sum()
    rho_right = (old * np.exp(audit.gain))[marks].sum() / share
    rho_wrong = (old * np.exp(audit.gain))[~marks].sum() / (1 - share)
    assert share * rho_right == pytest.approx(new[marks].sum(), abs=1e-12)  # r · E[e^ℓ | right] = P_after(right)
    assert share * (rho_right - 1) == pytest.approx((1 - share) * (1 - rho_wrong), abs=1e-12)
    assert (old * audit.gain).sum() <= 1e-12  # −KL(before ‖ after): own answers lose likelihood by any movement
    if seeds[0] == seeds[1]:
        assert (audit.gain == 0).all()


grades = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=8)


@given(grades=grades, data=st.data())
def test_identical_models_move_nothing(grades: list[list[bool]], data: Any) -> None:
    answers = made_answers(grades)
    count = 9 * len(grades)
    table = made_table(answers, data.draw(st.lists(st.floats(-2, 0), min_size=count, max_size=count)))
    signs = mass_audit(scored_answers(answers), table, table, count_right(answers))
    assert [sign.name for sign in signs] == ["right_up", "wrong_down", "new_mass", "importance_accuracy"]
    for sign in signs:
        assert sign.outcome != "trouble"
        assert sign.change in (0, None)
    if signs[3].outcome == "reported":
        assert signs[3].details["effective_share"] == pytest.approx(1)
        assert signs[3].details["agrees"]
        assert signs[3].details["mean_weight"] == 1


@given(grades=grades, shift=st.floats(-3, 3))
def test_a_shift_of_every_token_is_three_times_as_much_an_answer(grades: list[list[bool]], shift: float) -> None:
    answers = made_answers(grades)
    before = made_table(answers, np.full(9 * len(grades), -4.0))
    after = made_table(answers, np.full(9 * len(grades), -4.0 + shift))
    right_up, wrong_down, *_ = mass_audit(scored_answers(answers), before, after)
    some = {mark for marks in grades for mark in marks}
    if True in some:
        assert right_up.change == pytest.approx(3 * shift, abs=1e-9)
        assert right_up.details["per_token"] == pytest.approx(shift, abs=1e-9)
        assert right_up.details["movement"] == pytest.approx(-3 * shift, abs=1e-9)
    else:
        assert right_up.outcome == "not measurable"
    if False in some:
        assert wrong_down.change == pytest.approx(-3 * shift, abs=1e-9)
    else:
        assert wrong_down.outcome == "no room"


def test_right_answers_that_lose_likelihood_are_trouble_and_a_threshold_can_excuse_it() -> None:
    answers = made_answers([[True, False]] * 12)
    scored, rng = scored_answers(answers), np.random.default_rng(0)
    before = made_table(answers, np.full(72, -1.0))
    lower = made_table(answers, -1.0 - rng.uniform(0.1, 0.2, 72))
    assert mass_audit(scored, before, lower)[0].outcome == "trouble"
    assert mass_audit(scored, lower, before)[0].outcome == "no alarm"
    assert mass_audit(scored, before, lower, threshold=3.0)[0].outcome == "no alarm"


def test_the_target_of_rejection_sampling_gains_minus_log_r_on_right_and_is_clipped_on_wrong() -> None:
    # π⁺ = π_before · [right] / r, with one token an answer and r = 1/2
    answers = made_answers([[True, False]] * 4, [[(3,), (4,)]] * 4)
    before = made_table(answers, np.log([0.5, 0.5] * 4))
    after = made_table(answers, [0.0, -np.inf] * 4)
    right_up, wrong_down, new_mass, estimated = mass_audit(scored_answers(answers), before, after)
    assert right_up.change == pytest.approx(math.log(2))
    assert wrong_down.change == pytest.approx(-LOWEST + math.log(0.5))
    assert wrong_down.details["clipped"] == 4
    assert new_mass.change == pytest.approx(0, abs=1e-12)  # 0.5 + 0.5 before, 1 + 0 after
    assert estimated.after == pytest.approx(1)
    assert estimated.before == 0.5
    assert estimated.details["effective_share"] == pytest.approx(0.5)


def test_an_answer_that_was_sampled_twice_counts_once_as_mass() -> None:
    answers = made_answers([[True, True, False]] * 3, [[(3,), (3,), (4,)]] * 3)
    before = made_table(answers, np.log([0.6, 0.6, 0.3] * 3))
    after = made_table(answers, np.log([0.4, 0.4, 0.1] * 3))
    new_mass = mass_audit(scored_answers(answers), before, after)[2]
    assert new_mass.before == pytest.approx(0.1)
    assert new_mass.after == pytest.approx(0.5)
    assert new_mass.change == pytest.approx(0.4)
    assert new_mass.details["distinct"] == 6


def test_long_answers_have_no_measurable_mass() -> None:
    answers = made_answers([[True, False]] * 3)
    table = made_table(answers, np.full(18, -5.0))
    assert mass_audit(scored_answers(answers), table, table)[2].outcome == "not measurable"


@given(weights=st.lists(st.floats(-700, 700), min_size=1, max_size=20))
def test_the_effective_share_is_between_one_answers_and_all(weights: list[float]) -> None:
    share = effective_share(np.array(weights))
    assert 1 / len(weights) - 1e-12 <= share <= 1 + 1e-12
    assert effective_share(np.array(weights) + 5) == pytest.approx(share)


def test_few_effective_answers_are_not_estimable() -> None:
    answers = made_answers([[True, False]] * 12)
    before = made_table(answers, np.full(72, -9.0))
    after = made_table(answers, np.concatenate((np.full(3, -1.0), np.full(69, -9.0))))
    sign = mass_audit(scored_answers(answers), before, after)[3]
    assert sign.outcome == "not measurable"
    assert "not estimable" in sign.note
    assert sign.details["effective_share"] == pytest.approx(1 / 24, rel=1e-6)


@pytest.mark.parametrize(
    ("sampling", "temperature", "reason"),
    [
        ({"temperature": 1.0, "top_p": 0.9}, 1.0, "top_p 0.9"),
        ({"temperature": 0.5}, 1.0, "temperature 0.5"),
    ],
)
def test_answers_of_another_distribution_give_no_probabilities(
    sampling: dict[str, float], temperature: float, reason: str
) -> None:
    answers = made_answers([[True, False]] * 3, **sampling)
    table = made_table(answers, np.full(18, -0.1), temperature=temperature)
    for sign in mass_audit(scored_answers(answers), table, table)[2:]:
        assert sign.outcome == "not measurable"
        assert reason in sign.note


def test_greedy_answers_still_have_a_likelihood() -> None:
    answers = made_answers([[True]] * 3, temperature=0.0)
    table = made_table(answers, np.full(9, -0.1))
    signs = mass_audit(scored_answers(answers), table, table)
    assert signs[0].change == 0
    assert "greedy" in signs[3].note


def test_a_measured_accuracy_that_the_likelihoods_contradict_is_told() -> None:
    answers = made_answers([[True, False, True, True]] * 30)
    table = made_table(answers, np.full(360, -0.1))
    measured = Counts(tuple(f"q{i}" for i in range(30)), np.zeros(30, dtype=np.int64), np.full(30, 4))
    sign = mass_audit(scored_answers(answers), table, table, measured)[3]
    assert not sign.details["agrees"]
    assert "contradicts" in sign.note


def test_a_table_of_other_answers_is_refused() -> None:
    answers, others = made_answers([[True, False]] * 3), made_answers([[True, False]] * 4)
    table, other = made_table(answers, np.zeros(18)), made_table(others, np.zeros(24))
    with pytest.raises(RLCircuitsError, match="other answers"):
        mass_audit(scored_answers(answers), table, other)
    with pytest.raises(RLCircuitsError, match="one temperature"):
        mass_audit(scored_answers(answers), table, made_table(answers, np.zeros(18), temperature=2.0))
