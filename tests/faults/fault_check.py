"""Try one malformed input on the command line, and check that the error message is as good as it must be."""

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

from rlcircuits.cli.exit_codes import DOES_NOT_HOLD, HOLDS, INCONCLUSIVE
from rlcircuits.cli.main import main

SECONDS = 5.0
"""Processor time within which a fault must be found."""

WAITING_SECONDS = 60.0
"""Wall-clock time within which a fault must be found, since waiting takes no processor time."""

LONGEST = 480
"""Most characters of an error message."""

FINISHED = (HOLDS, DOES_NOT_HOLD, INCONCLUSIVE)
"""The exit codes of a command that did its work."""

PAIR = "one"
"""Name of the pair in every comparison."""

PROGRESS = (f"{PAIR}: ", "release: ")
"""How the progress messages of the tests' pairs begin."""

_MORE_MEMORY = 6 << 30
_PREFIX = "rlcircuits: "
# What only the authors understand, or how another library says it.
_NOT_A_SENTENCE = re.compile(r"Traceback|\[Errno|errors\.pydantic\.dev| object at 0x|\(char \d+\)")


class TooSlow(BaseException):
    """A fault was not found within its time limit."""


@dataclass(frozen=True)
class Fault:
    """One malformed input."""

    kind: str
    """What is malformed; the summary counts faults by kind."""
    name: str
    make: Callable[[], list[str]]
    """Writes the input into the current, empty folder, and returns the arguments of the command that reads it."""
    says: tuple[str, ...]
    """What the error message must contain: the names of the file and of the field. "a|b" allows either form."""
    harmless: bool = False
    """Whether the command may also run. If it fails, its error may then be about a consequence of the input.

    A list or rule decides this beforehand, never what the command did with the input.
    """

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def check(fault: Fault) -> str:
    """Try a fault in the current folder, and return ``refused`` or ``ran``.

    Fails if the command neither refused the input in one sentence nor, for a harmless input, ran; if it took too long;
    and if it changed a file that was there before.
    """
    arguments = fault.make()
    before = _files()
    outcome = run(arguments)
    if fault.harmless and outcome.code in FINISHED:
        assert "Traceback" not in outcome.err
        return "ran"
    check_refused(outcome, () if fault.harmless else fault.says)
    after = _files()
    assert {file: after.get(file) for file in before} == before, "a file was changed"
    return "refused"


def check_refused(outcome: Outcome, says: tuple[str, ...]) -> None:
    """Check that a command failed with one sentence that contains all of `says`."""
    assert outcome.code == 2, f"exit code {outcome.code}: {outcome.out}{outcome.err}"
    # The progress messages of a pair are no part of the error.
    said = [line for line in outcome.err.splitlines() if not line.startswith(PROGRESS)]
    assert len(said) == 1, f"not one line: {outcome.err}"
    check_sentence(said[0], says)


def check_sentence(line: str, says: tuple[str, ...]) -> None:
    """Check that a line is an error message of rlcircuits that contains all of `says`."""
    assert line.startswith(_PREFIX), line
    assert len(line) <= LONGEST, f"{len(line)} characters: {line}"
    assert line.isprintable(), repr(line)
    assert not _NOT_A_SENTENCE.search(line), line
    assert not line.rstrip().endswith((":", "(", ",")), f"it ends where the reason begins: {line}"
    for word in says:
        assert any(one in line for one in word.split("|")), f"{word!r} is not in: {line}"


def run(arguments: list[str]) -> Outcome:
    """Run the command line in this process, and return what a separate process would print."""
    out, err = io.StringIO(), io.StringIO()
    with _limits(), redirect_stdout(out), redirect_stderr(err), _said_on(err):
        try:
            code = main(arguments)
        except SystemExit as error:  # argparse
            code = error.code if isinstance(error.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


@contextmanager
def _said_on(err: io.StringIO) -> Iterator[None]:
    """Send warnings and the log of transformers to `err`, as they go to stderr outside of pytest."""
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
    """Stop a command that takes too long, and limit the memory that it can take."""

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
    """Return size and modification time of every file in the current folder."""
    found = {}
    for folder, _, names in os.walk("."):
        for name in names:
            state = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (state.st_size, state.st_mtime_ns)
    return found
