"""Regular expressions of users, which may take for ever on some texts, searched with a limit on the time.

The ``regex`` package reads what Python's ``re`` reads, and can stop a search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import regex

from rlcircuits.common.errors import RLCircuitsError, truncated_repr

__all__ = ["SECONDS", "UserPattern"]

SECONDS = 2.0
"""Longest time that one search may take; a harmless expression takes microseconds on an answer."""


@dataclass(frozen=True)
class UserPattern:
    """A regular expression of a user.

    Raises:
        RLCircuitsError: it is none; the message says what it is.
    """

    what: str
    """What it is, such as ``format 'code'``: the start of messages."""
    pattern: str

    def __post_init__(self) -> None:
        try:
            regex.compile(self.pattern)
        except regex.error as error:
            raise RLCircuitsError(
                f"{self.what}: {truncated_repr(self.pattern)} is no regular expression: {error}"
            ) from None
        except RecursionError:
            raise RLCircuitsError(
                f"{self.what}: {truncated_repr(self.pattern)} has too many groups within one another"
            ) from None

    def is_in(self, text: str) -> bool:
        """Return whether a text contains a match.

        Raises:
            RLCircuitsError: the search takes longer than :data:`SECONDS`.
        """
        try:
            return self._compiled.search(text, timeout=SECONDS) is not None
        except TimeoutError:
            raise self._too_slow(text) from None

    def ends(self, text: str) -> Iterator[int]:
        """Yield where each match in a text ends, from left to right.

        Raises:
            RLCircuitsError: the search takes longer than :data:`SECONDS`.
        """
        try:
            for match in self._compiled.finditer(text, timeout=SECONDS):
                yield match.end()
        except TimeoutError:
            raise self._too_slow(text) from None

    @property
    def _compiled(self) -> Any:
        return regex.compile(self.pattern)  # which the package keeps

    def _too_slow(self, text: str) -> RLCircuitsError:
        return RLCircuitsError(
            f"{self.what}: {truncated_repr(self.pattern)} takes more than {SECONDS:g} seconds on an answer of "
            f"{len(text):,} characters; write it without repetitions within repetitions, such as (a+)+"
        )
