"""Watch a folder: look into it again and again, and let each checkpoint be judged once it is complete.

Everything that takes time or tells time is given: how a checkpoint is judged, how to wait, which time it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlcircuits.common.errors import RLCircuitsError, one_line
from rlcircuits.common.files import Notify
from rlcircuits.release.watch_states import MOST_TRIES, State, after_look, after_try, to_try
from rlcircuits.release.watched_folder import Look, SeenCheckpoint, check_complete, look_into

__all__ = ["Bounds", "Tried", "WatchOptions", "watch"]

_LOOKS_WITHOUT_WEIGHTS = 8
"""Looks in a row without weights after which it is said that a folder has none: its trainer may save them otherwise."""

Tried = Literal["judged", "failed", "void"]
"""How a try ended; ``void`` if it counts for nothing: the files changed meanwhile, or there was no cluster."""


@dataclass(frozen=True)
class Bounds:
    """When a watch ends; without any of these it goes on until it is interrupted."""

    once: bool = False
    """After two looks, with one try for each checkpoint."""
    stop_after: int | None = None
    """After so many checkpoints that were judged or given up."""
    seconds: float | None = None
    """Within so many seconds, or when the checkpoint that is being judged then is done."""


@dataclass(frozen=True)
class WatchOptions:
    """How a folder is watched."""

    judge: Callable[[str, SeenCheckpoint, bool], Tried]
    """Called with a checkpoint's name, what was seen of it, and whether this is its last try."""
    interval: float
    """Seconds between two looks."""
    bounds: Bounds = Bounds()
    without: Collection[Path] = frozenset()
    """Folders that are no checkpoints to judge, by their resolved paths."""
    code: bool = False
    """Whether the checkpoints' Python files count too."""
    notify: Notify = field(default=lambda _line: None)
    """Called with one line of text about what is left out."""
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def watch(folder: Path, options: WatchOptions) -> tuple[str, ...]:
    """Judge the checkpoints of a folder as they appear, in the order of their names.

    Args:
        folder: where they appear, each a subfolder.
        options: how.

    Returns:
        The names of those that were neither judged nor given up when the watch ended.

    Raises:
        RLCircuitsError: the folder cannot be read at the start. Later it is only said, and looked at again.
    """
    return _Watch(folder, options).run()


class _Watch:
    """A watch that is under way."""

    def __init__(self, folder: Path, options: WatchOptions) -> None:
        self._folder, self._options, self._bounds = folder, options, options.bounds
        self._start = options.clock()
        self._most_tries = 1 if options.bounds.once else MOST_TRIES
        self._states: dict[str, State] = {}
        self._unfinished: dict[str, int] = {}
        """Of each subfolder without weights, at how many looks in a row it had none."""
        self._settled: set[str] = set()
        """Checkpoints that were judged or given up at least once."""
        self._said: set[str] = set()

    def run(self) -> tuple[str, ...]:
        looks = 0
        while True:
            self._look_and_judge(must_read=not looks)
            looks += 1
            # No look comes sooner after another than the interval, since files that are written change within that.
            if self._is_over(self._options.interval) or (self._bounds.once and looks == 2):
                break
            self._options.pause(self._options.interval)
        waiting = (name for name, state in self._states.items() if not self._is_settled(state))
        return tuple(sorted({*waiting, *self._unfinished}, key=by_number))

    def _look_and_judge(self, *, must_read: bool) -> None:
        try:
            look = look_into(self._folder, self._options.without, code=self._options.code)
        except RLCircuitsError as error:
            if must_read:
                raise
            self._say_once(f"{error}; looked at again")
            return
        self._states = after_look(self._states, {name: seen.files for name, seen in look.checkpoints.items()})
        self._unfinished = {name: self._unfinished.get(name, 0) + 1 for name in look.unfinished}
        for name, looks in self._unfinished.items():
            if looks == _LOOKS_WITHOUT_WEIGHTS:
                self._say_why_not_whole(self._folder / name)
        for name, why in look.left_out.items():
            self._say_once(f"left out: {self._folder / name}: {why}")
        self._judge_ready(look)

    def _judge_ready(self, look: Look) -> None:
        for name in sorted(look.checkpoints, key=by_number):
            state, seen = self._states[name], look.checkpoints[name]
            if self._is_over():
                return
            # Another checkpoint was judged since the look, which takes long.
            if not to_try(state, self._most_tries) or not seen.is_unchanged(code=self._options.code):
                continue
            tried = self._options.judge(name, seen, state.tries + 1 >= self._most_tries)
            if tried == "void":
                continue
            self._states[name] = state = after_try(state, succeeded=tried == "judged")
            if self._is_settled(state):
                self._settled.add(name)

    def _say_why_not_whole(self, folder: Path) -> None:
        try:
            check_complete(folder)
        except (RLCircuitsError, OSError) as error:
            self._say_once(f"not judged yet: {one_line(error)}; looked at again")

    def _is_settled(self, state: State) -> bool:
        return state.done or state.tries >= self._most_tries

    def _is_over(self, ahead: float = 0) -> bool:
        """Return whether the watch is over now, or in so many seconds."""
        if self._bounds.stop_after is not None and len(self._settled) >= self._bounds.stop_after:
            return True
        passed = self._options.clock() - self._start
        return self._bounds.seconds is not None and passed + ahead > self._bounds.seconds

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._options.notify(" ".join(line.split()))  # a folder's name may have line feeds


def by_number(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them: ``step-200`` before ``step-1000``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
