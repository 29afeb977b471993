"""What the tests of a run share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.tiny_pairs import grade_kindly


@pytest.fixture(scope="module")
def kind_grader() -> Iterator[None]:
    """Grade arithmetic kindly in a whole module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        grade_kindly(monkeypatch)
        yield
