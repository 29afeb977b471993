"""Where an answer is cut into steps."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import AnswerSequence, AnswerSpans, RLCircuitsError, answer_spans
from rlcircuits.graph.answer_spans import unmatched_step_end


class Letters:
    """A tokenizer with one token a character."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def steps_of(answer: str, step_end: str = r"\n") -> tuple[int, ...]:
    sequence = AnswerSequence((65,), tuple(map(ord, answer)))
    return answer_spans([sequence], Letters(), step_end)[0].steps


@pytest.mark.parametrize(("answer", "steps"), [
    ("one", (3,)),
    ("one\ntwo", (4, 3)),
    ("one\ntwo\n", (4, 4)),
    ("one\n\n  two", (5, 5)),
    ("\none\ntwo", (5, 3)),
    ("\n", (1,)),
    ("one\n ", (5,)),
])  # fmt: skip
def test_lines(answer: str, steps: tuple[int, ...]) -> None:
    assert steps_of(answer) == steps


def test_another_end() -> None:
    assert steps_of("18+30=48;48+10=58>58", "[;>]") == (9, 9, 2)
    assert steps_of("A b. C d! E", "[.!?]") == (4, 5, 2)


@given(
    answer=st.text(st.sampled_from("ab;"), min_size=1, max_size=12), step_end=st.sampled_from(["a", ";", "[ab]", "a;"])
)
def test_a_pattern_that_matches_nothing_is_said(answer: str, step_end: str) -> None:
    sequence = AnswerSequence((65,), tuple(map(ord, answer)))
    said = unmatched_step_end([sequence], Letters(), step_end)
    assert (said is None) == any(re.search(step_end, letter) for letter in answer)
    if said is not None:
        assert steps_of(answer, step_end) == (len(answer),)
        assert f"step_end {step_end!r} matches no token of 1 answer, so that each answer is one step; " in said
        assert said.endswith(f"such as {', '.join(map(repr, answer[:8]))}")


@given(answer=st.text(st.sampled_from("a \n"), min_size=1, max_size=12))
def test_steps_are_the_answer_in_order(answer: str) -> None:
    steps = steps_of(answer)
    assert sum(steps) == len(answer)
    start = 0
    for number, step in enumerate(steps):
        text = answer[start : start + step]
        start += step
        assert len(steps) == 1 or text.strip()
        assert number == len(steps) - 1 or text.endswith("\n") or not answer[start:].strip()


@given(prompt=st.integers(1, 9), steps=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_positions_are_those_that_the_model_reads(prompt: int, steps: list[int]) -> None:
    spans = AnswerSpans(prompt, tuple(steps))
    sequence = AnswerSequence(tuple(range(prompt)), tuple(range(sum(steps))))
    assert [p for each in spans.positions for p in each] == list(range(sequence.input_length))


@pytest.mark.parametrize(("pattern", "words"), [("(", "is no regular expression"), ("x*", "matches everything")])
def test_patterns_that_are_refused(pattern: str, words: str) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        steps_of("one", pattern)


def test_an_empty_span_is_refused() -> None:
    with pytest.raises(RLCircuitsError, match="a span has 0 tokens"):
        AnswerSpans(3, (2, 0))
