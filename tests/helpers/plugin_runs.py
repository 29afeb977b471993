"""Sessions of pytest with the plugin, in which comparisons are made up and not measured."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

import pytest

import rlcircuits.release.run  # noqa: F401 - pytester forgets modules that a run within a test imports first
from helpers.synthetic_comparisons import made_up_comparison
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.pair import Pair
from rlcircuits.release.settings import Settings

USERS_TESTS = """
def test_effect(effect):
    assert effect.holds, effect.message
"""

ONE_PAIR = ("--before", "org/base", "--after", "org/tuned", "--algorithm", "grpo")

PLUGIN = (
    () if importlib.metadata.entry_points(group="pytest11", name="rlcircuits") else ("-p", "rlcircuits.pytest_plugin")
)
"""Arguments that load the plugin in a plain checkout. Where the package is installed, its entry point does."""

Run = Callable[..., pytest.RunResult]
Declare = Callable[[str], object]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Return a function that runs pytest in a fresh folder with USERS_TESTS."""
    pytester.makepyfile(test_mine=USERS_TESTS)
    return lambda *arguments: pytester.runpytest_inprocess("-p", "no:cacheprovider", *PLUGIN, *arguments)


@pytest.fixture
def declare(pytester: pytest.Pytester) -> Declare:
    """Return a function that writes ``pairs.toml`` beside a folder ``base``."""
    pytester.mkdir("base")
    return pytester.path.joinpath("pairs.toml").write_text


class FakePipeline:
    """Replaces run_pair: returns made-up comparisons, and records what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Pair, Settings, Any]] = []
        self.stores: list[Any] = []
        self.options: dict[str, Any] = {}
        self.error: Exception | None = None

    def __call__(
        self, pair: Pair, settings: Settings, *, output: Any, store: Any, notify: Any, progress: bool
    ) -> Comparison:
        self.calls.append((pair, settings, output))
        self.stores.append(store)
        assert store is None or os.path.isdir(store)
        notify(f"{pair.name}: a stage")
        if self.error is not None:
            raise self.error
        return made_up_comparison(pair.name, pair.algorithm, profile=pair.expectations.name, **self.options)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """Return what stands in for run_pair during the test."""
    fake = FakePipeline()
    monkeypatch.setattr("rlcircuits.release.run.run_pair", fake)
    return fake
