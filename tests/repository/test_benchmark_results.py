"""Stored benchmark results are read by ``pytest-benchmark compare`` and by github-action-benchmark."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

FILES = sorted((ROOT / "benchmarks" / "results").glob("*/**/*.json"))
"""What pytest-benchmark stored, in a folder for each machine; other files hold the numbers of tables."""


def benchmarks(file: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    return found


def test_there_is_a_stored_result() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_pytest_benchmark_compares_it_with_another(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    other = Path(shutil.copy(file, tmp_path / "new.json"))
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(file), str(other), "--columns=median,ops"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for each in benchmarks(file):
        assert str(each["name"])[:40] in done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_has_what_github_action_benchmark_reads(file: Path) -> None:
    """Its tool ``pytest`` takes ``fullname`` and of ``stats`` the fields ops, stddev, mean and rounds (extract.ts)."""
    found = benchmarks(file)
    names = [each["fullname"] for each in found]
    assert len(set(names)) == len(names)
    for each in found:
        stats = each["stats"]
        assert isinstance(stats, dict)
        assert all(math.isfinite(stats[name]) for name in ("ops", "stddev", "mean", "rounds"))
        assert stats["ops"] == pytest.approx(1 / stats["mean"])
