"""Time the stages of a run, for ``--stage-times``: each second counts once, for the innermost stage that it belongs to.

    with record_stages() as times:
        with stage("attribute"):        # or @stage("attribute") on a function
            ...
            with stage("contract"):     # its time is not counted as attribution
                ...
    times.table()

Without :func:`record_stages`, a stage is one test of a global. Times are of the whole process: the stages of a run
follow one another in one thread, while a backward pass runs its hooks in another.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ContextDecorator, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["STAGES", "StageName", "StageTime", "StageTimes", "current_times", "record_stages", "stage"]

StageName = Literal[
    "load",
    "answer",
    "grade",
    "pair",
    "attribute",
    "contract",
    "control",
    "statistics",
    "circuits",
    "signs",
    "report",
    "rest",
]

STAGES: tuple[StageName, ...] = get_args(StageName)
"""The stages of a pair, in their order; ``rest`` is all that belongs to none of the others."""

_CONTROL: StageName = "control"
_REST: StageName = "rest"


@dataclass(frozen=True)
class StageTime:
    """The time that one stage took."""

    stage: StageName
    seconds: float
    """All of it, in seconds."""
    in_controls: float
    """The part of it that was spent on noise controls, in seconds."""


class StageTimes:
    """The seconds of each stage since it was made."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[StageName, bool], float] = {}
        self._open: list[StageName] = []
        self._since = time.perf_counter()

    def begin(self, name: StageName) -> None:
        """Begin a stage within the one that is open."""
        _wait_for_device()  # for what the outer stage asked
        self._count()
        self._open.append(name)

    def end(self) -> None:
        """End the stage that began last."""
        _wait_for_device()
        self._count()
        self._open.pop()

    def snapshot(self) -> Mapping[tuple[StageName, bool], float]:
        """Return the seconds so far, by stage and by whether they were spent on controls."""
        self._count()
        return dict(self._seconds)

    def table(self, since: Mapping[tuple[StageName, bool], float] | None = None) -> tuple[StageTime, ...]:
        """Return the time of each stage that took any, in the order of :data:`STAGES`.

        Args:
            since: a snapshot; what it has is not counted.
        """
        earlier, now = since or {}, self.snapshot()
        took = {key: seconds - earlier.get(key, 0.0) for key, seconds in now.items()}
        parts = [(name, took.get((name, False), 0.0), took.get((name, True), 0.0)) for name in STAGES]
        return tuple(StageTime(name, alone + control, control) for name, alone, control in parts if alone + control > 0)

    def _count(self) -> None:
        now = time.perf_counter()
        key = (self._open[-1] if self._open else _REST, _CONTROL in self._open)
        self._seconds[key] = self._seconds.get(key, 0.0) + now - self._since
        self._since = now


_recording: StageTimes | None = None


class stage(ContextDecorator):
    """Count the time of a block, or of each call of a function, for a stage."""

    def __init__(self, name: StageName) -> None:
        self._name = name

    def __enter__(self) -> None:
        if _recording is not None:
            _recording.begin(self._name)

    def __exit__(self, *_: object) -> None:
        if _recording is not None:
            _recording.end()


def current_times() -> StageTimes | None:
    """Return the times that are being recorded; None if none are."""
    return _recording


@contextmanager
def record_stages(wanted: bool = True) -> Iterator[StageTimes | None]:
    """Record the stages of a block; with ``wanted`` false, do nothing and yield None."""
    global _recording
    before = _recording
    _recording = StageTimes() if wanted else before
    try:
        yield _recording if wanted else None
    finally:
        _recording = before


def _wait_for_device() -> None:
    """Wait until a CUDA device has done what it was asked, so that its time counts for the stage that asked it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
