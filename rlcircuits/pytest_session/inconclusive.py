"""What a test does whose finding is inconclusive, by the option ``--rlcircuits-on-inconclusive``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from rlcircuits.common.choices import OnInconclusive

if TYPE_CHECKING:
    from rlcircuits.comparison.verdict import Finding


class InconclusiveWarning(pytest.PytestWarning):
    """Too little is known of what a pair asserts, and the user wants a warning of it."""

    __module__ = "rlcircuits.pytest_session.inconclusive"


def skip_inconclusive(finding: Finding, on_inconclusive: OnInconclusive) -> None:
    """Skip the running test if its finding is inconclusive, unless that is to fail; warn if that is wanted."""
    if finding.outcome != "inconclusive" or on_inconclusive == "fail":
        return
    if on_inconclusive == "warn":
        first, *_ = finding.message.splitlines()
        warnings.warn(InconclusiveWarning(first), stacklevel=2)
    pytest.skip(finding.message)
