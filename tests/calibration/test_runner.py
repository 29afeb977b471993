"""The processes that make a calibration's runs: what is kept when one fails, ends, or the user interrupts."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlcircuits.calibration import runner
from rlcircuits.calibration.run_record import Run, read_runs
from rlcircuits.common.errors import RLCircuitsError

pytestmark = pytest.mark.slow

RUN = Run(
    "",
    "nulls",
    "one",
    "base",
    "null",
    "",
    1000,
    1,
    "inconclusive",
    {"accuracy": "holds"},
    False,
    0.9,
    0.9,
    None,
    50,
    1.0,
)


def tasks(*what: str) -> Any:
    return [SimpleNamespace(key=f"{what}-{place}") for place, what in enumerate(what)]


def act(task: Any, _store: Path) -> Run:
    """Stand in for the measurement, in a process of its own: what it does is the first word of the task's key."""
    what = task.key.split("-")[0]
    if what == "fail":
        raise RLCircuitsError("it cannot be measured")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupt":
        time.sleep(1)  # so that the run before it is kept
        os.kill(os.getppid(), signal.SIGINT)
    time.sleep({"slow": 2, "endless": 60, "interrupt": 60}.get(what, 0))
    return replace(RUN, key=task.key)


@pytest.fixture(autouse=True)
def _acting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "execute", act)


def test_the_runs_of_other_processes_are_kept_when_one_fails(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="it cannot be measured"):
        runner.make_runs(tasks("slow", "fail", *["good"] * 8), tmp_path, jobs=2)
    assert "slow-0" in read_runs(tmp_path / runner.RUNS)


def test_a_process_that_was_ended_from_outside_is_told(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"ended from outside.*give the same command again"):
        runner.make_runs(tasks("good", "die", "good"), tmp_path)
    assert "good-0" in read_runs(tmp_path / runner.RUNS)


def test_an_interruption_waits_for_no_run(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.make_runs(tasks("good", "interrupt", "endless", "endless"), tmp_path)
    assert time.monotonic() - start < 30
    assert set(read_runs(tmp_path / runner.RUNS)) == {"good-0"}
