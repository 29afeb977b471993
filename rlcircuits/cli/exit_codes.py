"""What the exit code of ``rlcircuits`` means."""

from __future__ import annotations

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
"""Ended by SIGINT; the number is the one that shells use."""

OUTPUT_CLOSED = 141
"""The reader of the output has gone, as after ``| head``; shells use this number for SIGPIPE."""
