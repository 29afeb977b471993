"""Make the parts of a result together with other processes that do the same, each part once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rlcircuits.common.files import lock_path, try_write_lock

__all__ = ["make_with_others"]

_T = TypeVar("_T")

_POLL_S = 0.05
"""Seconds between two looks at parts that other processes make."""


def make_with_others(
    parts: Iterable[_T], path_of: Callable[[_T], Path], is_done: Callable[[_T], bool], make: Callable[[_T], None]
) -> None:
    """Make every part that is missing, and return when all are there.

    A process takes the next part that nobody makes. So a slow process holds the others up for one part at most, and a
    part whose maker dies is made by another.

    Args:
        parts: all parts, in the order in which they are wanted.
        path_of: the path of a part's lock; no two parts have the same.
        is_done: whether a part is there.
        make: makes a part, while this process holds its lock.
    """
    everything = list(parts)
    left = everything
    while left:
        held = []
        for part in left:
            if is_done(part):
                continue
            with try_write_lock(path_of(part)) as free:
                if not free:
                    held.append(part)
                elif not is_done(part):  # another process may have finished it meanwhile
                    make(part)
        left = held
        if left:
            time.sleep(_POLL_S)
    for part in everything:
        with suppress(OSError):  # some systems remove no file that another process has open
            lock_path(path_of(part)).unlink(missing_ok=True)
