"""Standard output and error: messages, and streams that are closed, full, or unable to encode a character."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO, TypeVar

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["checked_output", "log", "log_error", "open_streams", "said_to_stderr", "shows_progress"]

_T = TypeVar("_T")

_ADVISES = "bitsandbytes.backends.cpu.ops"
"""The logger that, on some CPUs, advises to install a kernel of `kernels-community`. PEFT imports bitsandbytes wherever
it is installed, and the kernel is for models in 4 bits, which are dequantised here."""


@dataclass
class _Said:
    """How much a command says of its progress."""

    quiet: bool = False
    verbose: bool = False


_said = _Said()


@contextmanager
def said_to_stderr(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Print the lines of the library's logger within the context: none if ``quiet``, details too if ``verbose``."""
    from rlcircuits.common.logs import logged_by

    before = _said.quiet, _said.verbose
    _said.quiet, _said.verbose = quiet, verbose
    try:
        shown = nullcontext() if quiet else logged_by(log, logging.DEBUG if verbose else logging.INFO)
        with shown, _without_advice(_ADVISES):
            yield
    finally:
        _said.quiet, _said.verbose = before


@contextmanager
def _without_advice(name: str) -> Iterator[None]:
    """Leave out what a logger of another library says below an error."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def shows_progress() -> bool:
    """Return whether the command shows progress: a bar on a terminal, a line a minute elsewhere."""
    return not _said.quiet


def log(line: str) -> None:
    """Print a line about the progress to standard error, unless the command is quiet.

    Where standard error cannot be written, as in a log on a full disk, the command continues without it.
    """
    if not _said.quiet:
        _print_error(f"{datetime.now():%H:%M:%S} {line}" if _said.verbose else line)


def _print_error(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError as error:
        _redirect_to_null(sys.stderr)
        if isinstance(error, BrokenPipeError):  # the reader has gone
            raise


def log_error(message: str) -> None:
    """Print an error to standard error, in one line."""
    _print_error(f"rlcircuits: {message}")


def open_streams() -> None:
    """Make printing work whatever the streams are: closed ones lead nowhere, and odd characters are replaced."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            # The caller closed it (`>&-`). This takes its file descriptor, so that no other file gets that number.
            setattr(sys, name, open(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            # A terminal without arrows and Greek letters shows a question mark for them.
            stream.reconfigure(errors="replace")


@contextmanager
def checked_output() -> Iterator[None]:
    """Flush standard output at the end, and tell its errors from those of other files.

    Raises:
        RLCircuitsError: standard output cannot be written.
        BrokenPipeError: its reader has gone.
    """
    output = _Output(sys.stdout)
    with redirect_stdout(output):
        try:
            yield
        except SystemExit:  # argparse has printed a help text
            output.flush()
            raise
        except BaseException:
            # The first error is the one to report.
            with suppress(RLCircuitsError, BrokenPipeError):
                output.flush()
            raise
        # Not when Python ends, when an error could no longer change the exit code.
        output.flush()


class _Output:
    """A stream whose write errors say that standard output is at fault."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._checked(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._checked(self._stream.flush)

    def _checked(self, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except OSError as error:
            _redirect_to_null(self._stream)
            if isinstance(error, BrokenPipeError):
                raise
            raise RLCircuitsError(
                f"standard output cannot be written: {error.strerror}; redirect it to another file"
            ) from None


def _redirect_to_null(stream: Any) -> None:
    """Redirect a stream that cannot be written to the null device; its buffer would fail again when Python ends."""
    with suppress(OSError):  # also for a stream without a file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
