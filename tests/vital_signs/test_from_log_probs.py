"""All signs of a pair at once, from two models' answers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
from helpers.core_inputs import NAMES
from helpers.tiny_models import VOCABULARY, build

from rlcircuits import RLCircuitsError
from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.vital_signs.exact_kl import exact_kl
from rlcircuits.vital_signs.from_log_probs import PairTables, log_prob_signs, score_both_sides
from rlcircuits.vital_signs.scored_answers import scored_answers
from rlcircuits.vital_signs.token_log_probs import answer_log_probs

SIGNS = [
    "right_up",
    "wrong_down",
    "new_mass",
    "importance_accuracy",
    "kl_per_point",
    "unearned_confidence",
    "feature_similarity",
    "reopening",
]


def answers_of(seed: int, **sampling: float) -> Answers:
    """Random answers to eight questions, four each, one of them without a token."""
    rng = np.random.default_rng(seed)
    items = []
    for question in range(8):
        prompt = tuple(rng.integers(3, VOCABULARY, 5).tolist())
        for sample in range(4):
            length = 0 if (question, sample) == (2, 1) else int(rng.integers(2, 7))
            ids = tuple(rng.integers(3, VOCABULARY, length).tolist())
            right = bool(rng.random() < 0.5)
            items.append(Answer(f"q{question}", prompt, ids, "", right, True, sample=sample))
    options = {"temperature": 1.0, **sampling}
    return Answers(f"seed {seed}", "few", "test", Sampling(**options, n=4), tuple(items))  # type: ignore[arg-type]


@cache
def checkpoint(name: str, seed: int) -> Checkpoint:
    return Checkpoint(build(name, seed=seed))


def tables(name: str, before: Answers, after: Answers, seeds: tuple[int, int] = (3, 4)) -> PairTables:
    return PairTables(*(score_both_sides(checkpoint(name, s), before, after, distributions=True) for s in seeds))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_beside_itself_shows_nothing(name: str) -> None:
    answers = answers_of(0)
    segments = [[(1, 1)] for _ in scored_answers(answers).sequences]
    signs = log_prob_signs(answers, answers, tables(name, answers, answers, (3, 3)), segments=segments)
    assert [sign.name for sign in signs] == SIGNS
    for sign in signs:
        assert sign.outcome != "trouble", sign
        assert sign.change in (0, None), sign
    assert signs[4].details["kl"] == 0
    assert signs[3].details["effective_share"] == 1


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_the_exact_divergence_is_the_same_from_tables_and_from_both_models(name: str) -> None:
    before, after = answers_of(0), answers_of(1)
    found = tables(name, before, after)
    pair = [checkpoint(name, seed) for seed in (4, 3)]
    exact = exact_kl(*pair, scored_answers(after).sequences)
    by_tables, by_models = (log_prob_signs(before, after, found, exact=each)[4] for each in (None, exact))
    assert by_tables.details["exact"]
    assert by_tables.details["kl"] == pytest.approx(by_models.details["kl"], rel=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
def test_two_models_have_all_signs_at_any_temperature(temperature: float) -> None:
    before, after = answers_of(0, temperature=temperature or 1.0), answers_of(1, temperature=temperature or 1.0)
    if temperature == 0:
        greedy = Sampling(temperature=0.0)
        before, after = (
            replace(each, sampling=greedy, items=tuple(item for item in each.items if item.sample == 0))
            for each in (before, after)
        )
    found = tables("llama", before, after)
    assert found.before.on_before.temperature == (temperature or 1.0)
    segments = [[(1, 1)] for _ in scored_answers(after).sequences]
    signs = log_prob_signs(before, after, found, segments=segments)
    assert [sign.name for sign in signs] == SIGNS
    for sign in signs:
        json.dumps(asdict(sign), allow_nan=False)


def test_pairs_that_do_not_fit_are_refused() -> None:
    before, after = answers_of(0), answers_of(1)
    found = tables("llama", before, after)
    with pytest.raises(RLCircuitsError, match="same sampling"):
        log_prob_signs(before, answers_of(1, temperature=0.5), found)
    with pytest.raises(RLCircuitsError, match="other answers"):
        log_prob_signs(after, before, found)


def test_features_of_a_tables_answers_are_where_both_models_are_at_the_same_token() -> None:
    before = answers_of(0)
    sequences = scored_answers(before).sequences
    one, other = (answer_log_probs(checkpoint("llama", 3), sequences, features=True, batch_tokens=n) for n in (9, 400))
    assert one.features is not None
    assert other.features is not None
    np.testing.assert_allclose(one.features, other.features, atol=1e-4)
