"""Fixtures of the fault campaign, which gives every command malformed inputs.

Every test runs in an empty folder. Its outcome is counted for the summary (`helpers/fault_counts.py`).
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_check import FINISHED, Fault, check
from helpers.fault_counts import PROPERTY
from valid_inputs import AFTER, BEFORE

from rlcircuits.cli.main import main

HERE = Path(__file__).parent
ONE_IN = 24
"""Of the campaign's faults, one in so many is tried by `tox -e tests`; the others are slow tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all faults but a fixed sample as slow. A fault's name says whether it is in the sample."""
    for item in items:
        if item.path.is_relative_to(HERE) and zlib.crc32(item.name.encode()) % ONE_IN:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def everything_imported() -> None:
    """Import torch and transformers first, so that the first fault's time limit does not include that."""
    options = ["--question-count", "3", "--k", "2", "--min-questions", "1", "--noise-draws", "0"]
    assert main(["compare", "--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", *options]) in FINISHED


@pytest.fixture(autouse=True)
def folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder with a short name, so that messages are no longer than a user sees them."""
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        monkeypatch.chdir(folder)
        yield
        os.chdir("/")


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[Fault], None]:
    """Return a function that tries a fault and counts its outcome."""

    def attempt(fault: Fault) -> None:
        count = _counter(request, fault.kind)
        count(check(fault))

    return attempt


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that counts the outcome, ``refused`` or ``ran``, of a fault that the test tries itself."""
    return _counter(request, request.module.KIND)


def _counter(request: pytest.FixtureRequest, kind: str) -> Callable[[str], None]:
    found = [kind, "else"]
    request.node.user_properties.append((PROPERTY, found))

    def count(outcome: str) -> None:
        found[1] = outcome

    return count
