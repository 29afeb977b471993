"""Choose `max_new_tokens` if the user gave none: the question set's own limit, or what the context leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.question_set import QuestionSet

__all__ = ["ContextRoom", "choose_max_new_tokens", "context_room"]

LEAST_NEW_TOKENS = 16
"""A context that leaves fewer tokens than this, and fewer than the question set's limit, is an error."""


@dataclass(frozen=True)
class ContextRoom:
    """What a model's context leaves for an answer after the longest prompt."""

    model: str
    context: int | None
    """Most tokens of prompt and answer together; None if the model states no limit."""
    longest_prompt: int
    """Tokens of the longest prompt."""

    @property
    def tokens(self) -> float:
        """Most tokens of an answer; infinite if the model states no limit."""
        return float("inf") if self.context is None else self.context - self.longest_prompt


def context_room(model: Any, prompts: Sequence[Sequence[int]]) -> ContextRoom:
    """Return the room for answers to these prompts, given a source or checkpoint."""
    return ContextRoom(model.name, getattr(model, "context_length", None), max(map(len, prompts)))


def choose_max_new_tokens(
    sampling: Sampling,
    questions: QuestionSet,
    rooms: Sequence[ContextRoom],
    notify: Callable[[str], None] | None = None,
) -> Sampling:
    """Return the sampling with `max_new_tokens` set.

    A given value stays. Otherwise it is the question set's own limit, lowered to the smallest of the rooms, so that it
    is the same for all models that are compared.

    Args:
        sampling: how answers are drawn.
        questions: the question set.
        rooms: the room that each model's context leaves.
        notify: called with one line of text if the limit is lowered.

    Raises:
        RLCircuitsError: the smallest room is less than :data:`LEAST_NEW_TOKENS` and than the question set's limit.
    """
    if sampling.max_new_tokens is not None:
        return sampling
    wanted = questions.max_new_tokens
    least = min(rooms, key=lambda room: room.tokens, default=None)
    if least is None or least.tokens >= wanted:
        return replace(sampling, max_new_tokens=wanted)
    beside = f"{least.model}'s context of {least.context} tokens, beside its longest prompt of {least.longest_prompt},"
    if least.tokens < min(LEAST_NEW_TOKENS, wanted):
        raise RLCircuitsError(
            f"{beside} leaves room for {max(int(least.tokens), 0)} new tokens, and answers to {questions.name!r} need "
            f"up to {wanted:,}; shorten the prompts (few_shot, system, template), or set max_new_tokens"
        )
    if notify is not None:
        notify(
            f"answers end at {int(least.tokens):,} tokens, not at the {wanted:,} of {questions.name!r}: {beside} "
            f"has no room for more"
        )
    return replace(sampling, max_new_tokens=int(least.tokens))
