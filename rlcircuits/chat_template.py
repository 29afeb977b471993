"""Chat templates, written out in a process of their own.

A template is a program that comes with a checkpoint: it may loop for ever, or double a string until the memory is gone.
The process is a fork of this one, limited in processor time and memory. Where there is no fork, templates are written
out in this process, without limits.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from rlcircuits.errors import RLCircuitsError, one_line

__all__ = ["write_chats"]

TIME_LIMIT = 2.0
"""Seconds of processor time for one chat. A busy machine must not change what is refused."""
_WAITING = 30
"""Seconds by the clock, for each of processor time, after which a process that sleeps is ended too."""
MEMORY_LIMIT = 2**30
"""Bytes that the process may take more than this one has."""
LENGTH_LIMIT = 2**24
"""Most characters of one chat."""

Chat = list[dict[str, str]]


def write_chats(tokenizer: Any, template: str, chats: Sequence[Chat]) -> list[str]:
    """Return the text that the template makes of each chat, the mark with which an answer begins at its end.

    Raises RLCircuitsError, saying what the template did, where it fails or goes beyond a limit.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return _checked([_write(tokenizer, template, chat) for chat in chats])
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, tokenizer, template, chats), daemon=True)
    with warnings.catch_warnings():
        # Of a fork while threads run: the child uses nothing that they may have locked.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    written: list[dict[str, str]] = []
    try:
        while len(written) < len(chats) and ours.poll(TIME_LIMIT * _WAITING):
            written.append(json.loads(ours.recv_bytes()))
    except EOFError:
        pass
    finally:
        process.join(0 if len(written) < len(chats) else None)
        process.kill()
        process.join()
        ours.close()
    if len(written) < len(chats) and "problem" not in (written[-1:] or [{}])[0]:
        slow = process.exitcode in (-signal.SIGVTALRM, -signal.SIGKILL)
        reason = f"it took more than {TIME_LIMIT:g} s" if slow else f"it ended the process (code {process.exitcode})"
        written.append({"problem": reason})
    return _checked(written)


def _serve(replies: Connection, tokenizer: Any, template: str, chats: Sequence[Chat]) -> None:
    """Write chat after chat, up to the first that fails, in the child."""
    _limit_memory()
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    for chat in chats:
        signal.setitimer(signal.ITIMER_VIRTUAL, TIME_LIMIT)
        written = _write(tokenizer, template, chat)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        replies.send_bytes(json.dumps(written).encode())
        if "problem" in written:
            break
    replies.close()
    os._exit(0)  # nothing that this process took over from its parent is to be closed down twice


def _write(tokenizer: Any, template: str, chat: Chat) -> dict[str, str]:
    try:
        text = tokenizer.apply_chat_template(chat, chat_template=template, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template may do whatever an expression can
        return {"problem": one_line(error)}
    if not isinstance(text, str) or len(text) > LENGTH_LIMIT:
        return {"problem": f"it writes more than {LENGTH_LIMIT:,} characters"}
    return {"text": text}


def _checked(written: Sequence[dict[str, str]]) -> list[str]:
    for one in written:
        if "problem" in one:
            raise RLCircuitsError(f"the tokenizer's chat template cannot write the prompt: {one['problem']}")
    return [one["text"] for one in written]


def _limit_memory() -> None:
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + MEMORY_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):  # no such limit on this system
        pass
