"""Interrupt a run at one of its progress messages."""

from __future__ import annotations

from collections.abc import Callable


class CutOffError(Exception):
    """The run is interrupted here."""


def cut_off(where: str) -> Callable[[str], None]:
    """Return a `notify` function that raises CutOffError at the first line that contains `where`."""

    def stop(line: str) -> None:
        if where in line:
            raise CutOffError

    return stop
