"""Standard output and error of the command line: closed, full, or without a letter that is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, TypeVar

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["checked_output", "lead_nowhere", "open_streams"]

_T = TypeVar("_T")


def open_streams() -> None:
    """Make stdout and stderr such that printing never fails for want of a stream or a letter."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            # Closed by who started the process (`>&-`). This takes its number, so that no other file gets it.
            setattr(sys, name, open(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            # A terminal without arrows and alphas should show a question mark.
            stream.reconfigure(errors="replace")


def lead_nowhere(stream: Any) -> None:
    """Let a stream that cannot be written lead nowhere: what is left in it would fail once more when Python ends."""
    with suppress(OSError):  # also of a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def checked_output() -> Iterator[None]:
    """Flush stdout at the end, and tell its errors from those of other files.

    Raises RLCircuitsError where it cannot be written; where nobody reads it any more the BrokenPipeError stays.
    """
    output = _Output(sys.stdout)
    with redirect_stdout(output):
        try:
            yield
        except SystemExit:  # argparse has printed its help
            output.flush()
            raise
        except BaseException:
            # What is wrong is known already.
            with suppress(RLCircuitsError, BrokenPipeError):
                output.flush()
            raise
        # Here, and not when Python ends, so that a reader who has gone, or a full disk, is met.
        output.flush()


class _Output:
    """A stream whose errors name it."""

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
            lead_nowhere(self._stream)
            if isinstance(error, BrokenPipeError):
                raise
            raise RLCircuitsError(f"standard output cannot be written: {error.strerror}; let it go elsewhere") from None
