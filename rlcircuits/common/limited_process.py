"""Work on what comes with a checkpoint, in a process of its own that is limited in processor time and memory.

A chat template is a program, and a regular expression may take longer than the universe is old. The process is a
fork of this one. Where there is no fork the work is done in this process, without limits.
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
"""Seconds of processor time for one item. A busy machine must not change what is refused."""
_WAITING = 30
"""Seconds by the clock, for each of processor time, after which a process that sleeps is ended too."""
MEMORY_LIMIT = 2**30
"""Bytes that the process may take more than this one has."""

_T = TypeVar("_T")


class LimitedProcessError(Exception):
    """The process was ended, or ended itself, before it was done."""


def map_in_limited_process(work: Callable[[_T], Any], items: Sequence[_T]) -> Generator[Any]:
    """Give what ``work`` makes of each item, which must be made of JSON's kinds, as it is made.

    The process ends with the generator: one that is closed early works on no further item.

    Raises LimitedProcessError, saying why in words that follow "it", in place of an item that takes more than there is.
    """
    if not items or "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        yield from map(work, items)
        return
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, work, items), daemon=True)
    with warnings.catch_warnings():
        # Of a fork while threads run: the child uses nothing that they may have locked.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    done = 0
    try:
        while done < len(items) and ours.poll(TIME_LIMIT * _WAITING):
            try:
                made = json.loads(ours.recv_bytes())
            except EOFError:
                break
            done += 1
            yield made
    finally:
        process.join(0 if done < len(items) else None)
        process.kill()
        process.join()
        ours.close()
    if done < len(items):
        if process.exitcode in (-signal.SIGVTALRM, -signal.SIGKILL):
            raise LimitedProcessError(f"took more than {TIME_LIMIT:g} s")
        raise LimitedProcessError(f"ended its process (code {process.exitcode})")


def _serve(replies: Connection, work: Callable[[_T], Any], items: Sequence[_T]) -> None:
    """Do the work, in the child."""
    limit_memory(MEMORY_LIMIT)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    for item in items:
        signal.setitimer(signal.ITIMER_VIRTUAL, TIME_LIMIT)
        made = work(item)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        replies.send_bytes(json.dumps(made).encode())
    replies.close()
    os._exit(0)  # nothing that this process took over from its parent is to be closed down twice
