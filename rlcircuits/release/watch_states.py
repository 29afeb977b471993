"""Decide by what was seen of checkpoints, look by look, which of them are tried now. No file is read here.

A checkpoint is tried once its files are the same at two looks. If that fails, it is tried again after 2 and after 4
further looks, and then left alone. A change of its files starts all of this anew, also after a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["MOST_TRIES", "Files", "State", "after_look", "after_try", "to_try"]

Files = tuple[tuple[str, int, int, int], ...]
"""Of each file that results depend on: its path, size in bytes, time of its last change in ns, and inode."""

MOST_TRIES = 3
"""How often a checkpoint is tried whose files do not change."""


@dataclass(frozen=True)
class State:
    """What is known of one checkpoint, as its files are now."""

    files: Files
    looks: int = 1
    """Looks in a row that found these files."""
    tries: int = 0
    """Failed tries with these files."""
    done: bool = False
    """Whether a try succeeded with these files."""


def after_look(states: Mapping[str, State], seen: Mapping[str, Files]) -> dict[str, State]:
    """Return the states after one more look, which forgets what is not there any more.

    Args:
        states: the states before, by the checkpoint's name.
        seen: the files of each checkpoint that the look found.
    """
    found = {}
    for name, files in seen.items():
        known = states.get(name)
        same = known is not None and known.files == files
        found[name] = replace(known, looks=known.looks + 1) if known is not None and same else State(files)
    return found


def to_try(state: State, most_tries: int = MOST_TRIES) -> bool:
    """Return whether a checkpoint is tried now."""
    return not state.done and state.tries < most_tries and state.looks >= _looks_before(state.tries)


def after_try(state: State, *, succeeded: bool) -> State:
    """Return the state after a try."""
    return replace(state, done=True) if succeeded else replace(state, tries=state.tries + 1)


def _looks_before(tries: int) -> int:
    """Return after how many looks in a row a checkpoint is tried that has failed so often: 2, 4, 8."""
    return 1 << (tries + 1)
