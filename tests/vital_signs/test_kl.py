"""KL divergences, exact and estimated, and their price in accuracy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from helpers.core_inputs import NAMES, fixed_sequences
from helpers.log_prob_tables import made_answers, made_table
from helpers.tiny_models import VOCABULARY, build
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, RLCircuitsError
from rlcircuits.vital_signs import token_log_probs as scoring
from rlcircuits.vital_signs.counts import Counts
from rlcircuits.vital_signs.exact_kl import exact_kl, stored_kl
from rlcircuits.vital_signs.kl_per_point import k3, kl_per_point
from rlcircuits.vital_signs.scored_answers import scored_answers
from rlcircuits.vital_signs.token_log_probs import answer_log_probs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_both_exact_divergences_are_the_definition(name: str, temperature: float) -> None:
    p, q = (build(name, seed=seed, dtype=torch.float64) for seed in (3, 4))
    sequences = fixed_sequences()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "LOGIT_BYTES", 4 * VOCABULARY * 2)
        together = exact_kl(p, q, sequences, temperature=temperature, batch_tokens=20)
    ours, theirs = (answer_log_probs(model, sequences, temperature=temperature, distributions=True) for model in (p, q))
    one_by_one = stored_kl(ours, theirs)
    assert ours.distributions is not None
    assert theirs.distributions is not None
    log_p, log_q = (torch.from_numpy(each.distributions) for each in (ours, theirs))  # type: ignore[arg-type]
    wanted = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).numpy()
    np.testing.assert_allclose(one_by_one, wanted, atol=1e-12)
    np.testing.assert_allclose(together, wanted, rtol=1e-4, atol=1e-5)  # norms are float32
    assert (together >= -1e-9).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_no_divergence_from_itself(name: str) -> None:
    model, sequences = build(name, seed=3, dtype=torch.bfloat16), fixed_sequences()
    assert (exact_kl(model, model, sequences) == 0).all()
    table = answer_log_probs(model, sequences)
    assert (k3(table, table) == 0).all()


def test_a_distribution_of_80_and_20_percent_is_1927_nats_from_an_even_one() -> None:
    answers = made_answers([[True]], [[(0,)]])
    skewed = np.log([[0.8, 0.2]])
    even = np.log([[0.5, 0.5]])
    tables = [made_table(answers, each[:, 0], vocabulary=2, distributions=each) for each in (skewed, even)]
    assert stored_kl(*tables)[0] == pytest.approx(0.1927, abs=5e-5)
    # the mean of k3 under the first is the same number, without its noise
    estimates = [k3(made_table(answers, even[:, v]), made_table(answers, skewed[:, v]))[0] for v in (0, 1)]
    assert 0.8 * estimates[0] + 0.2 * estimates[1] == pytest.approx(stored_kl(*tables)[0], abs=1e-12)


@settings(max_examples=15)
@given(seeds=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_k3_has_the_exact_divergence_as_mean_and_positions_add_up(seeds: tuple[int, int]) -> None:
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    before, after = (build("gpt2", seed=seed, dtype=torch.float64, vocab_size=3, **ids) for seed in seeds)
    every = [AnswerSequence((1, 2), answer) for answer in itertools.product(range(3), repeat=2)]
    old, new = (answer_log_probs(model, every) for model in (before, after))
    chance = np.exp(new.sums(new.log_probs))
    exact = exact_kl(after, before, every)
    sampled = k3(old, new)
    assert (sampled >= 0).all()
    # E_after of the sum over an answer's tokens: by k3, by the exact divergence at each prefix, and of whole answers
    whole = (chance * (new.sums(new.log_probs) - old.sums(old.log_probs))).sum()
    assert (chance * new.sums(sampled)).sum() == pytest.approx(whole, abs=1e-9)
    assert (chance * new.sums(exact)).sum() == pytest.approx(whole, abs=1e-9)


def test_tokens_that_are_ruled_out_are_counted_as_the_definition_says() -> None:
    answers = made_answers([[True]], [[(0,)]])
    tables = [
        made_table(answers, [0.0], vocabulary=2, distributions=np.array([each]))
        for each in ([0.0, -np.inf], np.log([0.5, 0.5]).tolist())
    ]
    assert stored_kl(tables[0], tables[1])[0] == pytest.approx(np.log(2))
    assert stored_kl(tables[1], tables[0])[0] == np.inf
    assert stored_kl(tables[0], tables[0])[0] == 0


def test_models_and_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RLCircuitsError, match="one vocabulary"):
        exact_kl(build("gpt2"), build("gpt2", vocab_size=40), fixed_sequences())
    table = answer_log_probs(build("gpt2"), fixed_sequences())
    with pytest.raises(RLCircuitsError, match="distributions=True"):
        stored_kl(table, table)
    with pytest.raises(RLCircuitsError, match="different answers"):
        k3(table, answer_log_probs(build("gpt2"), fixed_sequences(2)))


def counts(right: list[int], n: int = 4) -> Counts:
    return Counts(tuple(f"q{i}" for i in range(len(right))), np.array(right), np.full(len(right), n))


def sign(before: list[int], after: list[int], step: float = 0.5, exact: Any = None, **sampling: Any) -> Any:
    """The sign of a pair whose every token's log-probability rose by `step`."""
    answers = made_answers([[i < right for i in range(4)] for right in after], **sampling)
    tokens = 12 * len(after)
    tables = [made_table(answers, np.full(tokens, level)) for level in (-1.0 - step, -1.0)]
    return kl_per_point(scored_answers(answers), *tables, counts(before), counts(after), exact=exact)


def test_a_price_is_the_divergence_over_the_points() -> None:
    found = sign([1] * 20, [3] * 20)
    value = np.exp(-0.5) - 1 + 0.5
    assert found.outcome == "reported"
    assert found.details["kl"] == pytest.approx(value)
    assert found.details["points"] == 50
    assert found.details["kl_answer"] == pytest.approx(3 * value)
    assert found.change == pytest.approx(value / 50)
    assert found.interval == pytest.approx((value / 50, value / 50))
    exact = np.linspace(0.1, 0.3, 240)
    found = sign([1] * 20, [3] * 20, exact=exact)
    assert found.details["exact"]
    assert found.change == pytest.approx(0.2 / 50)
    assert found.details["k3"] == pytest.approx(value)
    assert found.interval[0] < found.change < found.interval[1]


def test_a_gain_without_any_movement_costs_nothing() -> None:
    assert sign([1] * 20, [3] * 20, step=0.0).change == 0


@pytest.mark.parametrize(("before", "after"), [([3] * 20, [1] * 20), ([2] * 20, [2] * 20), ([2] * 3, [2, 2, 3])])
def test_no_gain_has_no_price(before: list[int], after: list[int]) -> None:
    found = sign(before, after)
    assert found.outcome == "not measurable"
    assert "no bound" in found.note
    assert found.details["kl"] > 0


def test_a_solved_set_has_no_room() -> None:
    assert sign([4] * 5, [4] * 5).outcome == "no room"


def test_answers_of_a_cut_distribution_need_the_exact_divergence() -> None:
    assert "top_p" in sign([1] * 20, [3] * 20, top_p=0.9).note
    assert sign([1] * 20, [3] * 20, top_p=0.9, exact=np.full(240, 0.1)).outcome == "reported"
    assert "temperature 0.5" in sign([1] * 20, [3] * 20, temperature=0.5).note
    with pytest.raises(RLCircuitsError, match="240 answer tokens"):
        sign([1] * 20, [3] * 20, exact=np.full(7, 0.1))
