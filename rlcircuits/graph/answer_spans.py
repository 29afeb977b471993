"""The spans of a sequence: its prompt, and the steps of its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.graph.sequences import AnswerSequence

__all__ = ["STEP_END", "AnswerSpans", "answer_spans", "span_name", "step_pattern", "unmatched_step_end"]

STEP_END = r"\n"
"""By default a step ends after a token that holds the end of a line."""

_EXAMPLE = 8
"""Tokens of an answer that a message shows."""


@dataclass(frozen=True)
class AnswerSpans:
    """The prompt and the steps of one answer, in tokens.

    Raises:
        RLCircuitsError: a length below one.
    """

    prompt: int
    """Tokens of the prompt."""
    steps: tuple[int, ...]
    """Tokens of each step of the answer."""

    def __post_init__(self) -> None:
        validate_fields(self)
        for number in (self.prompt, *self.steps):
            if number < 1:
                raise RLCircuitsError(f"AnswerSpans: a span has {number} tokens; at least one is wanted")

    def __repr__(self) -> str:
        return short_repr(self, format_count(self.prompt, "prompt token"), f"steps of {elided_repr(self.steps)} tokens")

    def __len__(self) -> int:
        return 1 + len(self.steps)

    @property
    def positions(self) -> tuple[range, ...]:
        """The positions of each span: the prompt's, then each step's.

        A position belongs to the span of the token that is read there, not of the one that is predicted. So the
        prompt's last position, which predicts the answer's first token, is the prompt's. The answer's last token is
        only predicted: the last step has one position less than tokens.
        """
        found, start = [], 0
        for tokens in (self.prompt, *self.steps):
            found.append(range(start, start + tokens))
            start += tokens
        found[-1] = found[-1][:-1]
        return tuple(found)


@validate_arguments
def answer_spans(sequences: Sequence[AnswerSequence], tokenizer: Any, step_end: str = STEP_END) -> list[AnswerSpans]:
    r"""Return the prompt and the answer's steps of each sequence.

    A step ends after a token whose text matches ``step_end``. Tokens are decoded one by one, so a pattern of several
    characters matches only within one token. A step of blank characters alone belongs to the step before it.

    Args:
        sequences: the sequences.
        tokenizer: a Hugging Face tokenizer, or anything whose ``decode`` takes a list of ids.
        step_end: a regular expression: ``\n`` for lines, ``[.!?]`` for sentences.

    Raises:
        RLCircuitsError: a pattern that is no regular expression, or matches the empty text.
    """
    ends = step_pattern(step_end)
    texts: dict[int, str] = {}
    return [_spans(sequence, tokenizer, ends, texts) for sequence in sequences]


def unmatched_step_end(sequences: Sequence[AnswerSequence], tokenizer: Any, step_end: str) -> str | None:
    """Return a sentence for a pattern that matches no token of any answer; None if it matches one.

    Args:
        sequences: the sequences.
        tokenizer: as for :func:`answer_spans`.
        step_end: the pattern.
    """
    ends = step_pattern(step_end)
    texts = {token: _decoded(tokenizer, token) for token in {each for row in sequences for each in row.answer_ids}}
    if not texts or any(map(ends.search, texts.values())):
        return None
    longest = max(sequences, key=lambda each: len(each.answer_ids))
    example = ", ".join(truncated_repr(texts[token]) for token in longest.answer_ids[:_EXAMPLE])
    answers = format_count(len(sequences), "answer")
    return (
        f"step_end {truncated_repr(step_end)} matches no token of {answers}, so that each answer is one step; it is "
        f"matched with one token at a time, such as {example}"
    )


def step_pattern(step_end: str) -> re.Pattern[str]:
    """Return the pattern of a step's last token. Raises RLCircuitsError for one that is none, or matches everything."""
    try:
        ends = re.compile(step_end)
    except re.error as error:
        raise RLCircuitsError(
            f"step_end is {truncated_repr(step_end)}, which is no regular expression: {error}"
        ) from None
    if ends.search(""):
        raise RLCircuitsError(
            f"step_end is {truncated_repr(step_end)}, which matches everything, so each token ends a step"
        )
    return ends


def _decoded(tokenizer: Any, token: int) -> str:
    try:
        return str(tokenizer.decode([token]))
    except Exception as error:  # of a tokenizer that may be anything
        raise RLCircuitsError(
            f"tokenizer is {type(tokenizer).__name__}, which cannot decode token id {token}: {one_line(error)}; a "
            "Hugging Face tokenizer is wanted"
        ) from None


def span_name(span: int) -> str:
    """Return the name of a span: ``prompt`` for 0, else ``step 1``, ``step 2``, …."""
    return f"step {span}" if span else "prompt"


def _spans(sequence: AnswerSequence, tokenizer: Any, ends: re.Pattern[str], texts: dict[int, str]) -> AnswerSpans:
    steps: list[int] = []
    length, blank = 0, True
    for token in sequence.answer_ids:
        if token not in texts:
            texts[token] = _decoded(tokenizer, token)
        length, blank = length + 1, blank and not texts[token].strip()
        if ends.search(texts[token]) and not (blank and not steps):
            if blank:
                steps[-1] += length
            else:
                steps.append(length)
            length, blank = 0, True
    if length and blank and steps:
        steps[-1] += length
    elif length:
        steps.append(length)
    return AnswerSpans(len(sequence.prompt_ids), tuple(steps))
