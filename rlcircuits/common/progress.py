"""The progress of every long step: on stderr, so that results on stdout stay clean."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

SLOW = 5.0
"""Seconds after which a step that is mostly quick is worth a word."""
_AGAIN = 60.0
"""Seconds between two lines where stderr is no terminal."""


def progress_bar(shown: bool, *more: ProgressColumn) -> Progress:
    """A bar with what is done, how much of how many, the time left, and ``more``; nothing if not ``shown``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *more,
        console=Console(stderr=True),
        disable=not shown,
        transient=True,
    )


@contextmanager
def progress_when_slow(
    what: str, total: int, within: Progress | None = None, **fields: Any
) -> Iterator[Callable[[], None]]:
    """Give a function to call after each of ``total`` steps, and show how many are done after ``SLOW`` seconds.

    On a terminal it is a bar, elsewhere a line and another each minute.

    Args:
        what: what is being done, such as ``grading``.
        total: how many steps there are.
        within: a bar that is shown at the same time; the steps become a task of it.
        fields: what the columns of ``within`` want to know of a task.
    """
    steps = _SlowSteps(what, total, within, fields)
    try:
        yield steps.advance
    finally:
        steps.end()


class _SlowSteps:
    def __init__(self, what: str, total: int, within: Progress | None, fields: dict[str, Any]) -> None:
        self._what, self._total, self._fields = what, total, fields
        self._within = None if within is None or within.disable else within
        self._bar: Progress | None = None
        self._done = 0
        self._ended = False
        self._lock = threading.Lock()
        self._wait(SLOW)

    def advance(self) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._timer.cancel()
            if self._bar is None:
                return
            self._bar.remove_task(self._task)
            if self._within is None:
                self._bar.stop()

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._ended:
                return
            if self._within is None and not sys.stderr.isatty():
                print(f"{self._what}: {self._done} of {self._total}", file=sys.stderr, flush=True)
                self._wait(_AGAIN)
                return
            bar = self._within or progress_bar(True)
            if self._within is None:
                bar.start()
            self._task = bar.add_task(self._what, total=self._total, completed=self._done, **self._fields)
            self._bar = bar
