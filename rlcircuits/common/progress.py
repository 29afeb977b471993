"""Progress: a bar on a terminal, else a line a minute on the logger, so that stdout has results only."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from rlcircuits.common.logs import LOGGER, log_stage

SLOW = 5.0
"""Seconds after which a step that is usually quick shows its progress."""
LINE_INTERVAL = 60.0
"""Seconds between two lines if stderr is not a terminal."""
_SPEED_PERIOD = 600.0
"""Seconds over which the speed of a task is estimated: a batch may take a minute."""


def progress_bar(shown: bool, *columns: ProgressColumn) -> Progress:
    """Return the progress of tasks, as a context manager; nothing is shown if not ``shown``.

    A terminal gets a bar with description, count, tokens a second and the time left. For anything else, such as a CI
    job or a pipe, a line a minute with the same goes to the logger (:mod:`rlcircuits.common.logs`). A task whose
    steps are tokens too counts them with :func:`advance`. Further ``columns`` are for a terminal only.
    """
    console = Console(stderr=True)
    if shown and not console.is_terminal:
        return _LineProgress()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        _TokenRate(),
        *columns,
        console=console,
        disable=not shown,
        transient=True,
        speed_estimate_period=_SPEED_PERIOD,
    )


def advance(bar: Progress, task: Any, steps: int, tokens: int = 0) -> None:
    """Count finished steps of a task, and the tokens in them."""
    known = bar.tasks[bar.task_ids.index(task)].fields.get("tokens", 0)
    bar.update(task, advance=steps, tokens=known + tokens)


def _tokens_per_second(task: Task) -> str:
    """Return the tokens a second of the task since it began; empty if it counts none."""
    tokens = task.fields.get("tokens", 0)
    return f"{tokens / task.elapsed:,.0f} tokens/s" if tokens and task.elapsed else ""


class _TokenRate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_tokens_per_second(task))


class _LineProgress(Progress):
    """Progress of tasks as a line a minute for each that has begun and is not done."""

    def __init__(self) -> None:
        super().__init__(disable=True, speed_estimate_period=_SPEED_PERIOD)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def start(self) -> None:
        """Begin to write lines."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Write no further line."""
        self._ended.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(LINE_INTERVAL):
            for task in self.tasks:
                if not task.finished:
                    with suppress(OSError):  # nobody reads the lines any more
                        log_stage(_line(task))


def _line(task: Task) -> str:
    total = "" if task.total is None else f" of {task.total:,.0f}"
    seconds = task.time_remaining
    parts = [f"{task.completed:,.0f}{total}", _tokens_per_second(task)]
    parts.append("" if seconds is None else f"{_duration(seconds)} left")
    return f"{task.description}: {', '.join(part for part in parts if part)}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def progress_when_slow(what: str, total: int, within: Progress | None = None) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each of ``total`` steps; after ``SLOW`` seconds show how many are done.

    A terminal shows a bar; for anything else a line goes to the logger then, and one each minute. Without ``within``
    nothing is shown where nobody listens to the logger, as after ``--quiet``.

    Args:
        what: the description, such as ``grading``.
        total: the number of steps.
        within: a bar that is already shown; the steps become one of its tasks.
    """
    steps = _SlowSteps(what, total, within)
    try:
        yield steps.advance
    finally:
        steps.end()


class _SlowSteps:
    def __init__(self, what: str, total: int, within: Progress | None) -> None:
        self._what, self._total = what, total
        self._within = None if within is None or within.disable else within
        self._bar: Progress | None = None
        self._done = 0
        self._ended = False
        self._lock = threading.Lock()
        self._wait(SLOW)

    def advance(self) -> None:
        with self._lock:  # a step that ends while the bar is being shown counts too
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
            if self._ended or (self._within is None and not LOGGER.isEnabledFor(logging.INFO)):
                return
            if self._within is None and not sys.stderr.isatty():
                log_stage(f"{self._what}: {self._done} of {self._total}")
                self._wait(LINE_INTERVAL)
                return
            bar = self._within or progress_bar(True)
            if self._within is None:
                bar.start()
            self._task = bar.add_task(self._what, total=self._total, completed=self._done)
            self._bar = bar
