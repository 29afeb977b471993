"""Tell who named no question set that the one asked by default is a toy, unless the checkpoints are toys too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pairs import Pair

__all__ = ["pair_notice", "toy_notice"]

_CHARACTERS = set("0123456789+=;>?x")
"""What the tokenizers of the shipped checkpoints can write, one a token."""


def toy_notice(sources: Iterable[CheckpointSource]) -> str | None:
    """One line, where one of the checkpoints is asked sums though it can write more than those; else None.

    A checkpoint whose tokenizer cannot be had is passed over: whoever asks it says so.
    """
    for source in sources:
        try:
            tokenizer = source.tokenizer()
        except RLCircuitsError:
            continue
        if not _writes_only_sums(tokenizer):
            return (
                f"note: no question set was named, so {source.name} is asked {defaults.QUESTIONS!r}, a toy for the "
                f"tiny checkpoints that come with rlcircuits; name one with --questions, such as gsm8k"
            )
    return None


def pair_notice(pair: Pair, trust_remote_code: bool = False) -> str | None:
    """The same for a pair, if it names no question set."""
    return toy_notice(pair.sources(trust_remote_code=trust_remote_code)) if pair.asks_by_default else None


def _writes_only_sums(tokenizer: Any) -> bool:
    tokens = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    return bool(tokens <= _CHARACTERS)
