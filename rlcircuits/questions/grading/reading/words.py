"""Write a set of words as one string."""

from __future__ import annotations

__all__ = ["word_set"]


def word_set(words: str) -> frozenset[str]:
    """Return the words of a string as a set: `word_set("is are")` is `{"is", "are"}`."""
    return frozenset(words.split())
