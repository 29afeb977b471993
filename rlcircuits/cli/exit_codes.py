"""What the exit code of ``rlcircuits`` means."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlcircuits.common.failures import Failure

HOLDS = 0
"""All is well; for ``compare``: the release holds."""

DOES_NOT_HOLD = 1
"""The release does not hold, or a check failed."""

INCONCLUSIVE = 3
"""The release is inconclusive, and ``--on-inconclusive`` is ``fail``."""

BAD_INPUT = 2
"""The input or the environment is wrong."""

FAULT = 70
"""A fault of rlcircuits itself, as EX_SOFTWARE of sysexits.h: 1, Python's own code, would look like a verdict."""

INTERRUPTED = 130
"""Ended by SIGINT or SIGTERM; the number is the one that shells use for the former."""

OUTPUT_CLOSED = 141
"""The reader of the output has gone, as after ``| head``; shells use this number for SIGPIPE."""


def failure_code(failures: Collection[Failure]) -> int:
    """Return the exit code of what could not be measured, and 0 if there is none."""
    if any(failure.is_fault for failure in failures):
        return FAULT
    return BAD_INPUT if failures else HOLDS
