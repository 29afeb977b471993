"""Notice for users who name no question set: the default one is a toy, meant for toy checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.pair import Pair

__all__ = ["pair_notice", "toy_notice"]

_CHARACTERS = set("0123456789+=;>?x")
"""The tokens of the shipped checkpoints' tokenizers, one character each."""


def toy_notice(sources: Iterable[CheckpointSource]) -> str | None:
    """Return a notice if a checkpoint can write more than sums, else None.

    A checkpoint whose tokenizer cannot be loaded is skipped; loading it reports the error.
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
    """Return the notice for a pair that names no question set, as :func:`toy_notice`; None for any other pair."""
    return toy_notice(pair.sources(trust_remote_code=trust_remote_code)) if pair.asks_by_default else None


def _writes_only_sums(tokenizer: Any) -> bool:
    tokens = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    return bool(tokens <= _CHARACTERS)
