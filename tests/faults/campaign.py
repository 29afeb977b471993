"""One malformed input: how it is made, what it is tried on, and what must then be said."""

from __future__ import annotations

import io
import logging
import os
import re
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.cli.main import main

SECONDS = 5.0
"""Of the processor, that a fault may take to be found."""

WAITING_SECONDS = 60.0
"""By the clock: what waits for something takes no time of the processor."""

LONGEST = 480
"""Characters of a message."""

PAIR = "one"
"""Name of the pairs that are compared."""

_MORE_MEMORY = 6 << 30
_PREFIX = "rlcircuits: "
# What only who wrote the code understands, or another library's way of saying it.
_NOT_A_SENTENCE = re.compile(r"Traceback|\[Errno|errors\.pydantic\.dev| object at 0x|\(char \d+\)")


class TooSlow(BaseException):
    """A fault took longer than it may."""


@dataclass(frozen=True)
class Fault:
    """One malformed input.

    `make` writes it into the current folder, which is empty, and gives the arguments of the command that reads it.
    The error must hold all of `says`, the names of the file and of the field, with | between other forms of one.
    `harmless` inputs may run, and where they do not the error may be of what they lead to. Which ones are is said
    beforehand, by a list or a rule, and not by what happened to them.
    """

    kind: str
    name: str
    make: Callable[[], list[str]]
    says: tuple[str, ...]
    harmless: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    code: int
    out: str
    err: str


def check(fault: Fault) -> str:
    """Try a fault in the current folder; returns what came of it, ``refused`` or ``ran``.

    Fails where it is neither refused in one sentence nor, being harmless, run; where it takes too long; and where a
    file that was there is another afterwards.
    """
    arguments = fault.make()
    before = _files()
    outcome = run(arguments)
    if fault.harmless and outcome.code in (0, 1):
        assert "Traceback" not in outcome.err
        return "ran"
    check_refused(outcome, () if fault.harmless else fault.says)
    after = _files()
    assert {file: after.get(file) for file in before} == before, "a file was changed"
    return "refused"


def check_refused(outcome: Outcome, says: tuple[str, ...]) -> None:
    """Check that a command ended in one sentence that holds all of `says`."""
    assert outcome.code == 2, f"exit code {outcome.code}: {outcome.out}{outcome.err}"
    # What a pair's stages tell on the way is no part of the error.
    said = [line for line in outcome.err.splitlines() if not line.startswith(f"{PAIR}: ")]
    assert len(said) == 1, f"not one line: {outcome.err}"
    check_sentence(said[0], says)


def check_sentence(line: str, says: tuple[str, ...]) -> None:
    """Check that a line is a message of ours that holds all of `says`."""
    assert line.startswith(_PREFIX), line
    assert len(line) <= LONGEST, f"{len(line)} characters: {line}"
    assert line.isprintable(), repr(line)
    assert not _NOT_A_SENTENCE.search(line), line
    assert not line.rstrip().endswith((":", "(", ",")), f"it ends where the reason begins: {line}"
    for word in says:
        assert any(one in line for one in word.split("|")), f"{word!r} is not in: {line}"


def run(arguments: list[str]) -> Outcome:
    """Run the command line in this process, with what a process of its own would show on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with _limits(), redirect_stdout(out), redirect_stderr(err), _said_on(err):
        try:
            code = main(arguments)
        except SystemExit as error:  # argparse
            code = error.code if isinstance(error.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


@contextmanager
def _said_on(err: io.StringIO) -> Iterator[None]:
    """Let warnings and transformers' log go where they go outside of pytest."""
    handlers = [h for h in logging.getLogger("transformers").handlers if isinstance(h, logging.StreamHandler)]
    streams = [handler.setStream(err) for handler in handlers]
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            for shown_to_nobody in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", shown_to_nobody)
            warnings.showwarning = lambda message, *_: print(message, file=err)
            yield
    finally:
        for handler, stream in zip(handlers, streams, strict=True):
            if stream is not None:
                handler.setStream(stream)


@contextmanager
def _limits() -> Iterator[None]:
    """Stop what takes too long, and keep what asks for too much memory from taking it from others."""

    def stop(number: int, _: object) -> None:
        raise TooSlow(f"more than {SECONDS if number == signal.SIGPROF else WAITING_SECONDS} s")

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MORE_MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _files() -> dict[str, tuple[int, int]]:
    """Size and time of change of the files in the current folder."""
    found = {}
    for folder, _, names in os.walk("."):
        for name in names:
            state = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (state.st_size, state.st_mtime_ns)
    return found
