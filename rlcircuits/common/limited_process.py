"""Run work that may never end in a child process, with limits on CPU time and memory.

A checkpoint can bring such work: a chat template is a program, and a regular expression can take exponential
time. The child is a fork of this process. On systems without fork the work runs in this process, without limits.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from rlcircuits.common.memory_limit import limit_memory

__all__ = ["MEMORY_LIMIT", "TIME_LIMIT", "LimitedProcessError", "map_in_limited_process"]

TIME_LIMIT = 2.0
"""Seconds of CPU time for one item. Wall-clock time would make the outcome depend on the machine's load."""
_WALL_CLOCK_FACTOR = 30
"""Wall-clock seconds for each second of CPU time, after which a child that sleeps is killed, too."""
MEMORY_LIMIT = 2**30
"""Bytes that the child may allocate beyond what this process uses."""

_T = TypeVar("_T")


class LimitedProcessError(Exception):
    """The child exceeded a limit, or exited before it was done."""


def map_in_limited_process(work: Callable[[_T], Any], items: Sequence[_T]) -> Generator[Any]:
    """Yield the result of ``work`` for each item, which must consist of JSON types, as soon as it is there.

    Closing the generator early kills the child.

    Raises:
        LimitedProcessError: an item exceeded a limit. Its text is a predicate, such as "took more than 2 s".
    """
    if not items or "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        yield from map(work, items)
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, work, items), daemon=True)
    with warnings.catch_warnings():
        # Python warns of a fork while threads run; the child uses nothing that a thread may have locked.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    done = 0
    try:
        while done < len(items) and receiver.poll(TIME_LIMIT * _WALL_CLOCK_FACTOR):
            try:
                result = json.loads(receiver.recv_bytes())
            except EOFError:
                break
            done += 1
            yield result
    finally:
        process.join(0 if done < len(items) else None)
        process.kill()
        process.join()
        receiver.close()
    if done < len(items):
        if process.exitcode in (-signal.SIGVTALRM, -signal.SIGKILL):
            raise LimitedProcessError(f"took more than {TIME_LIMIT:g} s")
        raise LimitedProcessError(f"ended its process (code {process.exitcode})")


def _serve(replies: Connection, work: Callable[[_T], Any], items: Sequence[_T]) -> None:
    """Run the work in the child and send back each result."""
    limit_memory(MEMORY_LIMIT)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    for item in items:
        signal.setitimer(signal.ITIMER_VIRTUAL, TIME_LIMIT)
        result = work(item)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        replies.send_bytes(json.dumps(result).encode())
    replies.close()
    os._exit(0)  # without the exit handlers inherited from the parent, which would run twice
