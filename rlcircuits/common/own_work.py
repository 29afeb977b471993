"""Count what this process itself does of a stage whose batches several processes share: tokens, and the time they took.

Whoever makes a batch says so with :func:`count_work`; whoever wants to know listens with :func:`own_work`. Waiting for
other processes' batches and loading a model are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["OwnWork", "count_work", "own_work"]


@dataclass
class OwnWork:
    """What was done so far."""

    tokens: int = 0
    seconds: float = 0.0


_current: ContextVar[OwnWork | None] = ContextVar("own_work", default=None)


@contextmanager
def own_work() -> Iterator[OwnWork]:
    """Yield the count of the work that is done within the context."""
    found = OwnWork()
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)


def count_work(tokens: int, seconds: float) -> None:
    """Count a batch of so many tokens that took so long; outside of :func:`own_work` nothing is counted."""
    if (current := _current.get()) is not None:
        current.tokens += tokens
        current.seconds += seconds
