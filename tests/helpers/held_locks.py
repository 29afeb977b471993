"""Hold a write lock while a test runs something that must wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import filelock

T = TypeVar("T")
PATIENCE = 120
"""Seconds after which a wait fails. Long, because the machine may be busy."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the write lock of a path, in another thread: the lock does not block the thread that holds it."""
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    with ThreadPoolExecutor(1) as holder:
        holder.submit(lock.acquire).result()
        try:
            yield
        finally:
            holder.submit(lock.release).result()


def run_while_held(path: Path, run: Callable[[Callable[[str], None]], T], meanwhile: Callable[[], object]) -> T:
    """Call `run` while another thread holds the write lock of `path`, and return its result.

    Fails if `run` does not wait for the lock, or notifies anything but one line about it.

    Args:
        path: the file that is locked.
        run: called with a `notify` function.
        meanwhile: called while `run` waits, before the lock is released.
    """
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with held(path):
            result = pool.submit(run, told.append)
            wait_until(lambda: bool(told))
            time.sleep(0.2)
            assert not result.done()
            meanwhile()
        found = result.result(PATIENCE)
    assert told == [f"waiting for another process to finish {path}"]
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true; fail after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)
