"""End a run in its middle, where it says what it does."""

from __future__ import annotations

from collections.abc import Callable


class CutOffError(Exception):
    """The run ends here."""


def cut_off(where: str) -> Callable[[str], None]:
    """A ``notify`` that raises CutOffError at the first line with these words."""

    def stop(line: str) -> None:
        if where in line:
            raise CutOffError

    return stop
