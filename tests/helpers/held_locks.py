"""Run something that waits for a lock which the test holds, as another process would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import filelock

T = TypeVar("T")
PATIENCE = 120  # seconds, on a busy machine


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the right to write the path, in a thread of its own: one thread may not wait for itself."""
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    with ThreadPoolExecutor(1) as holder:
        holder.submit(lock.acquire).result()
        try:
            yield
        finally:
            holder.submit(lock.release).result()


def run_while_held(path: Path, run: Callable[[Callable[[str], None]], T], meanwhile: Callable[[], object]) -> T:
    """What ``run`` gives, which is told by its argument what it waits for; ``meanwhile`` is done before it may go on.

    Fails if it does not wait, or says anything but one line of it.
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


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until it is true, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
