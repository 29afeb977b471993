"""Define what an engine is: a loaded model that continues batches of prompts.

Everything else (prompts, batches, decoding, grading, caching) is the same for all engines; see `answers/generate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlcircuits.answers.types import Sampling
from rlcircuits.graph.image_inputs import ImageInputs

__all__ = ["Completion", "Engine", "cut_after_end", "end_token_ids"]


@dataclass(frozen=True)
class Completion:
    """What a model generated after one prompt."""

    ids: tuple[int, ...]
    """Token ids, with the end token if it was generated."""
    finished: bool
    """True if the end token was generated."""


class Engine(Protocol):
    """A loaded model that continues prompts."""

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and answer together; None if the model states no limit."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the model knows."""

    def complete(
        self,
        prompts: Sequence[tuple[int, ...]],
        sampling: Sampling,
        seed: int,
        images: Sequence[ImageInputs | None] | None = None,
    ) -> list[Completion]:
        """Continue each prompt, up to and including its first end token.

        The result must not depend on other calls, and the global random state must not change.

        Args:
            prompts: token ids of each prompt.
            sampling: how tokens are drawn. A prompt is continued by at most `sampling.max_new_tokens`.
            seed: seed of this call, which replaces `sampling.seed`.
            images: the images of each prompt, for an engine that passes them on; None if no prompt has any.

        Returns:
            One completion for each prompt, in the same order.

        Raises:
            RLCircuitsError: the memory is not sufficient.
        """


def end_token_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the ids of all end tokens. Chat models often have an end of turn besides the end of text."""
    found = getattr(generation_config, "eos_token_id", None)
    ids = [] if found is None else [found] if isinstance(found, int) else list(found)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(ids))


def cut_after_end(ids: Sequence[int], ends: tuple[int, ...]) -> Completion:
    """Cut generated ids after their first end token."""
    for position, token in enumerate(ids):
        if token in ends:
            return Completion(tuple(ids[: position + 1]), True)
    return Completion(tuple(ids), False)
