"""Progress bars on stderr, so that stdout has results only."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

SLOW = 5.0
"""Seconds after which a step that is usually quick shows its progress."""
_LINE_INTERVAL = 60.0
"""Seconds between two progress lines if stderr is not a terminal."""


def progress_bar(shown: bool, *more: ProgressColumn) -> Progress:
    """Return a bar with description, count, remaining time and the columns ``more``; hidden if not ``shown``."""
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
    """Yield a function to call after each of ``total`` steps; after ``SLOW`` seconds show how many are done.

    A terminal shows a bar; anything else gets a line now and one each minute.

    Args:
        what: the description, such as ``grading``.
        total: the number of steps.
        within: a bar that is already shown; the steps become one of its tasks.
        fields: the task's fields that the columns of ``within`` need.
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
                self._wait(_LINE_INTERVAL)
                return
            bar = self._within or progress_bar(True)
            if self._within is None:
                bar.start()
            self._task = bar.add_task(self._what, total=self._total, completed=self._done, **self._fields)
            self._bar = bar
