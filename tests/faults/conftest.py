"""The fault campaign: every test has a folder of its own, and what was tried is counted (`fault_counts.py`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

import pytest
from campaign import Fault, check
from helpers.fault_counts import PROPERTY
from workshop import AFTER, BEFORE

from rlcircuits.cli.main import main


@pytest.fixture(autouse=True, scope="session")
def everything_imported() -> None:
    """A fault's seconds are not those of the first import of torch and transformers."""
    options = ["--question-count", "3", "--k", "2", "--min-questions", "1", "--noise-draws", "0"]
    assert main(["compare", "--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", *options]) in (0, 1)


@pytest.fixture(autouse=True)
def folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder of a short name, so that messages are as long as a user sees them."""
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        monkeypatch.chdir(folder)
        yield
        os.chdir("/")


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[Fault], None]:
    """Try a fault, and count it."""

    def attempt(fault: Fault) -> None:
        count = _counter(request, fault.kind)
        count(check(fault))

    return attempt


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Count what came of a fault that a test makes by itself, ``refused`` or ``ran``."""
    return _counter(request, request.module.KIND)


def _counter(request: pytest.FixtureRequest, kind: str) -> Callable[[str], None]:
    found = [kind, "else"]
    request.node.user_properties.append((PROPERTY, found))

    def count(outcome: str) -> None:
        found[1] = outcome

    return count
