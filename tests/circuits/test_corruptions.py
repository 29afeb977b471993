"""Corrupted sequences of the same lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, RLCircuitsError
from rlcircuits.circuits import other_sequences
from rlcircuits.circuits.corruptions import have_others


@given(counts=st.lists(st.integers(2, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_each_sequence_gets_another_of_its_lengths(counts: list[int], seed: int) -> None:
    sequences = [
        AnswerSequence((5,) * (length + 1), (number, 1))
        for length, count in enumerate(counts)
        for number in range(count)
    ]
    found = other_sequences(sequences, seed=seed)
    for clean, other in zip(sequences, found, strict=True):
        assert clean != other
        assert len(clean.prompt_ids) == len(other.prompt_ids)
    assert sorted(map(repr, found)) == sorted(map(repr, sequences))  # each is used once
    assert found == other_sequences(sequences, seed=seed)


def test_a_sequence_without_another_of_its_lengths_is_refused() -> None:
    with pytest.raises(
        RLCircuitsError, match="sequence 1 has 2 prompt and 1 answer tokens, as no different sequence has"
    ):
        other_sequences([AnswerSequence((1,), (2,)), AnswerSequence((1, 2), (3,)), AnswerSequence((4,), (5,))])


def test_equal_sequences_never_replace_each_other() -> None:
    """Several samples of one question may be equal. Replaced by itself, an edge would not be removed."""
    one, two = AnswerSequence((1, 2), (3,)), AnswerSequence((1, 4), (3,))
    assert other_sequences([one, one, two, one]) == [two, two, one, two]
    assert have_others([one, one, two, AnswerSequence((1,), (3,)), AnswerSequence((1,), (3,))]) == [0, 1, 2]
    with pytest.raises(RLCircuitsError, match="as no different sequence has"):
        other_sequences([one, one])


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(RLCircuitsError, match="seed is -1"):
        other_sequences([AnswerSequence((1,), (2,))] * 2, seed=-1)
