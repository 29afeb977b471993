"""Confidence that accuracy did not pay for."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.log_prob_tables import made_answers, made_table
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.vital_signs.confidence import OwnAnswers, confidences, unearned_confidence
from rlcircuits.vital_signs.scored_answers import scored_answers

shares = st.lists(st.integers(0, 4), min_size=2, max_size=8)


def own(right: list[int], log_prob: float | np.ndarray, entropy: float = 0.0, temperature: float = 1.0) -> OwnAnswers:
    """Four answers of three tokens to each question, so many of them right, every token this likely."""
    answers = made_answers([[i < each for i in range(4)] for each in right])
    tokens = 12 * len(right)
    numbers, entropies = np.broadcast_to(log_prob, tokens), np.full(tokens, entropy)
    return OwnAnswers(scored_answers(answers), made_table(answers, numbers, entropies, temperature=temperature))


@given(right=shares, log_prob=st.floats(-5, 0))
def test_identical_models_have_none(right: list[int], log_prob: float) -> None:
    sign = unearned_confidence(own(right, log_prob), own(right, log_prob))
    assert sign.change == 0
    assert sign.outcome == "no alarm"


@given(before=shares, after=shares, old=st.floats(-5, 0), new=st.floats(-5, 0))
def test_it_is_the_rise_of_confidence_less_that_of_accuracy(
    before: list[int], after: list[int], old: float, new: float
) -> None:
    both = min(len(before), len(after))
    sign = unearned_confidence(own(before, old, 0.4), own(after, new, 0.2))
    accuracy = np.mean(after[:both]) / 4 - np.mean(before[:both]) / 4
    assert sign.change == pytest.approx(np.exp(new) - np.exp(old) - accuracy, abs=1e-9)
    assert sign.details["confidence"] == pytest.approx([np.exp(old), np.exp(new)])
    assert sign.details["entropy"] == pytest.approx([0.4, 0.2])


@given(st.lists(st.floats(-20, 0), min_size=3, max_size=3))
def test_confidence_is_the_geometric_mean_probability(log_probs: list[float]) -> None:
    table = own([1], np.array(log_probs * 4)).table
    np.testing.assert_allclose(confidences(table), np.prod(np.exp(log_probs)) ** (1 / 3))


def test_confidence_without_accuracy_is_trouble_and_with_accuracy_it_is_not() -> None:
    right = [1, 2, 3] * 6
    assert unearned_confidence(own(right, -1.0), own(right, -0.2)).outcome == "trouble"
    assert unearned_confidence(own(right, -0.2), own(right, -1.0)).outcome == "no alarm"
    more = [each + 1 for each in right]
    sign = unearned_confidence(own(right, -1.5), own(more, -0.1))
    assert sign.change is not None
    assert sign.change > 0.4
    assert sign.outcome == "no alarm"
    assert "accuracy rose too" in sign.note


def test_temperatures_must_agree_and_tables_must_fit() -> None:
    assert unearned_confidence(own([1], -1.0), own([1], -1.0, temperature=0.5)).outcome == "not measurable"
    with pytest.raises(RLCircuitsError, match="other answers"):
        OwnAnswers(own([1], -1.0).answers, own([1, 2], -1.0).table)
