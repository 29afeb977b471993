"""Mean pairwise cosines: the O(K) identity against all pairs one by one, and hand cases."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from helpers.log_prob_tables import made_answers, made_table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlcircuits.vital_signs.feature_similarity import centred_similarity, feature_similarity, mean_cosine
from rlcircuits.vital_signs.scored_answers import scored_answers

features = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 9), st.integers(1, 6)),
    elements=st.floats(-10, 10).map(lambda x: round(x, 3)),
)


def by_pairs(vectors: np.ndarray) -> float:
    """The definition, in O(K²)."""
    cosines = [x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in itertools.combinations(vectors, 2)]
    return float(np.mean(cosines))


def lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)


@given(vectors=features)
def test_it_is_the_mean_over_all_pairs(vectors: np.ndarray) -> None:
    if (lengths(vectors) == 0).any():
        assert math.isnan(mean_cosine(vectors))
    else:
        count = len(vectors)
        found = mean_cosine(vectors)
        assert found == pytest.approx(by_pairs(vectors), abs=1e-9)
        assert -1 / (count - 1) - 1e-9 <= found <= 1 + 1e-9


@given(vectors=features, shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_the_centred_one_does_not_depend_on_a_common_part(vectors: np.ndarray, shift: float, scale: float) -> None:
    found, moved = centred_similarity(vectors), centred_similarity(vectors * scale + shift)
    centred = vectors - vectors.mean(0)
    if lengths(centred).min() > 1e-3:
        assert found == pytest.approx(by_pairs(centred), abs=1e-9)
        assert moved == pytest.approx(found, abs=1e-6)


def test_hand_cases() -> None:
    assert mean_cosine(np.eye(5)) == pytest.approx(0)
    assert mean_cosine(np.ones((4, 3))) == pytest.approx(1)
    assert mean_cosine(np.array([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-1)
    assert centred_similarity(np.eye(5)) == pytest.approx(-1 / 4)  # a regular simplex
    assert math.isnan(centred_similarity(np.ones((4, 3))))
    assert math.isnan(mean_cosine(np.ones((1, 3))))


def sign(old: np.ndarray, new: np.ndarray) -> Any:
    answers = made_answers([[True, False]] * (len(old) // 2))
    tables = [made_table(answers, np.zeros(3 * len(old)), features=each.astype(np.float32)) for each in (old, new)]
    return feature_similarity(scored_answers(answers), *tables)


def test_identical_features_change_nothing_and_equal_ones_are_alike() -> None:
    rng = np.random.default_rng(0)
    apart, alike = rng.normal(size=(40, 8)), rng.normal(size=8) + 0.05 * rng.normal(size=(40, 8))
    same = sign(apart, apart)
    assert same.change == 0
    assert same.interval == (0, 0)
    closer = sign(apart, alike)
    assert closer.before == pytest.approx(by_pairs(apart.astype(np.float32)[::2]), abs=1e-6)
    assert closer.after > 0.9
    assert closer.interval[0] < closer.change < closer.interval[1]
    assert closer.interval[0] > 0.5
    assert abs(closer.details["centred"][1]) < 0.2  # what they share is all that is alike
    assert closer.questions == 20


def test_the_interval_is_the_jackknife_by_definition() -> None:
    rng = np.random.default_rng(1)
    old, new = rng.normal(size=(2, 24, 5)) + 1
    found = sign(old, new)
    ours, theirs = (each.astype(np.float32).astype(np.float64)[::2] for each in (old, new))
    left_out = np.array([by_pairs(np.delete(theirs, i, 0)) - by_pairs(np.delete(ours, i, 0)) for i in range(len(ours))])
    error = np.sqrt((len(ours) - 1) * np.var(left_out))
    assert found.interval[1] - found.change == pytest.approx(1.959964 * error, rel=1e-5)


def test_what_is_missing_is_said() -> None:
    assert "at least 3" in sign(np.ones((4, 2)), np.ones((4, 2))).note
    assert "zero" in sign(np.zeros((8, 2)), np.ones((8, 2))).note
    answers = made_answers([[True]] * 4)
    table = made_table(answers, np.zeros(12))
    assert "not kept" in feature_similarity(scored_answers(answers), table, table).note
