"""What the library says while it works: lines on the logger ``rlcircuits``.

The library prints nothing. A program that wants the lines configures logging, or passes ``notify=`` to a function that
has it. Stages are at level INFO, what only helps to look into a run at level DEBUG. The command line and the pytest
plugin show the logger's lines in their own way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["LOGGER", "log_detail", "log_stage", "logged_by"]

LOGGER = logging.getLogger("rlcircuits")
LOGGER.addHandler(logging.NullHandler())


def log_stage(line: str) -> None:
    """Log a line about a stage; the default of every ``notify``."""
    LOGGER.info("%s", line)


def log_detail(line: str) -> None:
    """Log a line that only helps to look into a run."""
    LOGGER.debug("%s", line)


@contextmanager
def logged_by(write: Callable[[str], None], level: int = logging.INFO) -> Iterator[None]:
    """Pass each line of the logger from this level on to a function, within the context."""
    handler = _Lines(write)
    handler.setLevel(level)
    before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(min(level, before or level))
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)


class _Lines(logging.Handler):
    """A handler that gives each message to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message."""
        self._write(record.getMessage())
