"""Batches: every sequence once, within the budget, and laid out where its scored positions are said to be."""

from __future__ import annotations

import pytest
from helpers.core_inputs import batches, sequences
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import AnswerSequence
from rlcircuits.graph.sequences import PaddingSide, make_batch, plan_batches


@given(batch=st.lists(sequences(), max_size=12), budget=st.integers(1, 60))
def test_plan_covers_every_sequence_once_within_the_budget(batch: list[AnswerSequence], budget: int) -> None:
    plan = plan_batches(batch, range(len(batch)), budget)
    assert sorted(i for indices in plan for i in indices) == list(range(len(batch)))
    longest = [max(batch[i].input_length for i in indices) for indices in plan]
    assert longest == sorted(longest, reverse=True)
    for indices, length in zip(plan, longest, strict=True):
        assert len(indices) * length <= budget or len(indices) == 1


@pytest.mark.parametrize("side", ["left", "right"])
@given(batch=batches)
def test_layout_says_where_each_scored_token_is_predicted(side: PaddingSide, batch: list[AnswerSequence]) -> None:
    laid = make_batch(batch, range(len(batch)), side)
    place = 0
    for row, sequence in enumerate(batch):
        everything = sequence.prompt_ids + sequence.answer_ids
        start = laid.input_ids.shape[1] - sequence.input_length if side == "left" else 0
        real = laid.input_ids[row, start : start + sequence.input_length]
        assert tuple(real.tolist()) == everything[:-1]
        if laid.attention_mask is not None:
            assert laid.attention_mask[row].sum() == sequence.input_length
            assert laid.attention_mask[row, start : start + sequence.input_length].all()
        for offset, token in enumerate(sequence.answer_ids):
            assert (laid.rows[place], laid.targets[place]) == (row, token)
            # The position whose next token is scored holds the token before it.
            before = everything[len(sequence.prompt_ids) + offset - 1]
            assert laid.input_ids[row, laid.columns[place]] == before
            place += 1
    assert place == len(laid.rows)


def test_ids_of_any_integer_type_become_plain_ints() -> None:
    import numpy as np

    sequence = AnswerSequence(np.array([1, 2]), np.array([3]))  # type: ignore[arg-type]
    assert sequence == AnswerSequence((1, 2), (3,))
