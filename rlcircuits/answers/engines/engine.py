"""Engines: what writes answers. Token ids in, token ids out.

An engine holds a loaded model and continues batches of prompts. Everything else (prompts, batches, decoding,
grading, storing) is the same for all of them and lives in `rlcircuits.answers.generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlcircuits.answers.types import Sampling

__all__ = ["Completion", "Engine", "end_ids", "until_end"]


@dataclass(frozen=True)
class Completion:
    """What was written after one prompt: token ids, the end token among them where `finished`."""

    ids: tuple[int, ...]
    finished: bool


class Engine(Protocol):
    """A loaded model that continues prompts."""

    @property
    def context(self) -> int | None:
        """Most tokens, prompt and answer together; None if the model names no limit."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids the model knows."""

    def complete(self, prompts: Sequence[tuple[int, ...]], sampling: Sampling, seed: int) -> list[Completion]:
        """Continue each prompt by at most `sampling.max_new_tokens`, up to and with its first end token.

        `seed` (and not the sampling's) fixes the draws of this call. The result does not depend on other calls,
        and the global random state is left as it was. Raises RLCircuitsError where memory does not suffice.
        """


def end_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return every id that ends an answer: chat models often have an end of turn beside the end of text."""
    found = getattr(generation_config, "eos_token_id", None)
    ids = [] if found is None else [found] if isinstance(found, int) else list(found)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(ids))


def until_end(ids: Sequence[int], ends: tuple[int, ...]) -> Completion:
    """Cut what a model wrote behind its first end token."""
    for position, token in enumerate(ids):
        if token in ends:
            return Completion(tuple(ids[: position + 1]), True)
    return Completion(tuple(ids), False)
