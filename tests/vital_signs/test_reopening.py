"""Entropy after a boundary, and where boundaries are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers.log_prob_tables import made_answers, made_table
from helpers.tiny_checkpoints import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, RLCircuitsError
from rlcircuits.vital_signs.reopening import boundary_changes, delimiter_segments, reopening
from rlcircuits.vital_signs.scored_answers import scored_answers

entropies = st.lists(st.floats(0, 5), min_size=1, max_size=30).map(np.array)


@given(values=entropies, first=st.integers(1, 25))
def test_a_boundary_at_the_start_reopens_nothing(values: np.ndarray, first: int) -> None:
    assert boundary_changes(values, [(0, 0)], first).tolist() == [0.0]


@given(values=entropies, first=st.integers(1, 25), data=st.data())
def test_tokens_that_are_not_the_models_contribute_nothing(values: np.ndarray, first: int, data: Any) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, len(values)), min_size=4, max_size=4)))
    segments = [(edges[0], edges[1]), (edges[2], edges[3])]
    other = values.copy()
    for start, stop in segments:
        other[start:stop] = data.draw(st.floats(0, 1e6))
    assert boundary_changes(values, segments, first).tolist() == boundary_changes(other, segments, first).tolist()


def test_windows_end_at_k_tokens_or_the_next_boundary() -> None:
    values = np.array([1.0, 2.0, 9.0, 4.0, 6.0, 9.0, 9.0, 3.0])
    assert boundary_changes(values, [(2, 3), (5, 7)], 20).tolist() == [5 - 1.5, 3 - 1.5]
    assert boundary_changes(values, [(2, 3), (5, 7)], 1).tolist() == [4 - 1.0, 3 - 1.0]
    assert boundary_changes(values, [(8, 8)], 1).size == 0
    assert boundary_changes(values, [(1, 3), (3, 5)], 1).tolist() == [9.0 - 1.0, 9.0 - 1.0]
    assert boundary_changes(values, [], 1).size == 0


def sign(old: np.ndarray, new: np.ndarray, segments: list[list[tuple[int, int]]], **options: Any) -> Any:
    """Two answers of three tokens to each question."""
    answers = made_answers([[True, False]] * (len(segments) // 2))
    tables = [made_table(answers, np.zeros(3 * len(segments)), each, vocabulary=8) for each in (old, new)]
    return reopening(scored_answers(answers), *tables, segments, **options)


@given(data=st.data(), questions=st.integers(1, 5))
def test_identical_models_reopen_alike_and_a_constant_entropy_not_at_all(data: Any, questions: int) -> None:
    tokens = 6 * questions
    values = np.array(data.draw(st.lists(st.floats(0, 2), min_size=tokens, max_size=tokens)))
    segments = [[(1, 1)]] * (2 * questions)
    assert sign(values, values, segments).change == 0
    flat = sign(np.full(tokens, 0.7), np.full(tokens, 1.9), segments)
    assert (flat.before, flat.after) == (0, 0)
    assert flat.details["spread"] == [0, 0]


def test_it_is_a_share_of_log_v() -> None:
    # from one-hot to uniform over eight tokens, and half the way under before
    new, old = np.tile([0.0, np.log(8), np.log(8)], 8), np.tile([0.0, np.log(8) / 2, np.log(8) / 2], 8)
    found = sign(old, new, [[(1, 1)], []] * 4, first=2)
    assert (found.before, found.after) == (pytest.approx(0.5), pytest.approx(1))
    assert found.outcome == "reported"
    assert found.details == {"spread": [1, 1], "boundaries": 4, "boundaries_a_question": 1}


def test_no_boundary_is_not_measurable_and_wrong_ones_are_refused() -> None:
    values = np.zeros(12)
    assert sign(values, values, [[]] * 4).outcome == "not measurable"
    assert sign(values, values, [[(3, 3)]] * 4).outcome == "not measurable"
    for wrong in ([(2, 1)], [(0, 4)], [(-1, 0)], [(2, 2), (1, 1)]):
        with pytest.raises(RLCircuitsError, match="boundaries of answer 0"):
            sign(values, values, [wrong] * 4)
    with pytest.raises(RLCircuitsError, match="at least one token"):
        sign(values, values, [[]] * 4, first=0)
    answers = made_answers([[True]] * 2)
    table = made_table(answers, np.zeros(6))
    with pytest.raises(RLCircuitsError, match="2 answers with tokens"):
        reopening(scored_answers(answers), table, table, [[]])


@given(st.text("1;>=+a", min_size=1, max_size=20), st.sampled_from((";", ";>", "[;=]", "=1")))
def test_a_delimiter_ends_where_its_text_does(text: str, pattern: str) -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False).input_ids  # a token for each character
    found = delimiter_segments([AnswerSequence((1,), tuple(ids))], tokenizer, pattern)[0]
    assert found == tuple((m.end(), m.end()) for m in re.finditer(pattern, text) if m.end() < len(text))


def test_a_token_that_holds_more_than_the_delimiters_end_is_before_the_boundary() -> None:
    class Pieces:
        """A tokenizer whose tokens hold several characters."""

        def decode(self, ids: tuple[int, ...], **_: bool) -> str:
            return "".join(("a", ";b", "c;", "é;é")[each] for each in ids)

    answers = [AnswerSequence((0,), ids) for ids in ((0, 1, 0), (2, 0), (3, 0, 2), (0, 0))]
    assert delimiter_segments(answers, Pieces(), ";") == (((2, 2),), ((1, 1),), ((1, 1),), ())


@pytest.mark.parametrize("pattern", ["(", "x*", ""])
def test_a_delimiter_that_ends_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(RLCircuitsError, match="boundary"):
        delimiter_segments([], tiny_tokenizer(), pattern)
