"""How long an answer may be where nobody said: as the question set needs, as far as the models' contexts reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.question_set import QuestionSet

__all__ = ["Room", "room_of", "with_length"]

LEAST_NEW_TOKENS = 16
"""Less room for an answer than this, or than its question set needs, is an error."""


@dataclass(frozen=True)
class Room:
    """What a model's context leaves for an answer, after its longest prompt."""

    model: str
    context: int | None
    """Most tokens, prompt and answer together; None if the model names no limit."""
    longest_prompt: int

    @property
    def tokens(self) -> float:
        """Tokens for the answer, unlimited ones included."""
        return float("inf") if self.context is None else self.context - self.longest_prompt


def room_of(model: Any, prompts: Sequence[Sequence[int]]) -> Room:
    """The room for answers to these prompts, as far as a source or checkpoint knows its context."""
    return Room(model.name, getattr(model, "context_length", None), max(map(len, prompts)))


def with_length(
    sampling: Sampling, questions: QuestionSet, rooms: Sequence[Room], notify: Callable[[str], None] | None = None
) -> Sampling:
    """The sampling with ``max_new_tokens``, the same for all models: as it is given, else what the question set needs.

    What the question set needs is lowered to the smallest room, which ``notify`` is told in one line.

    Raises RLCircuitsError where that leaves fewer than :data:`LEAST_NEW_TOKENS`.
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
