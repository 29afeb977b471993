"""Mark some cases of a parametrized test as slow, so that everyone runs the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_unless(is_quick: Callable[..., bool], cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the cases, of which those that `is_quick` returns False for are marked as slow."""
    return [pytest.param(*case, marks=() if is_quick(*case) else pytest.mark.slow) for case in cases]
