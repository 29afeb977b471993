"""The comparison of stored benchmarks: a worse ratio fails, and so does having nothing to compare with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import regression
from benchmarks.speed.regression import LARGER_IS_WORSE, Change, main

NAME = "test_core_speed.py::test_attribution[cpu-small-sublayer]"
INFO = {"device": "cpu", "ratio": 1.1, "peak_memory_ratio": 1.2, "bandwidth_share": 0.8, "flop_utilisation": 0.5}


def stored(folder: Path, name: str = "run.json", time: str = "2026-01-01", **benchmarks: Any) -> str:
    """A file such as pytest-benchmark stores; its times are noise."""
    results = [{"fullname": key, "extra_info": info, "stats": {"median": 9.9}} for key, info in benchmarks.items()]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"benchmarks": results, "datetime": time, "machine_info": {}}))
    return str(folder / name)


@given(before=st.floats(0.1, 10), now=st.floats(0.1, 10), measure=st.sampled_from(sorted(LARGER_IS_WORSE)))
def test_worse_is_larger_or_smaller_by_measure(before: float, now: float, measure: str) -> None:
    change = Change(NAME, measure, before, now)
    assert (change.worse > 0) == ((now > before) if LARGER_IS_WORSE[measure] else (now < before))
    assert abs(change.worse) == pytest.approx(abs(now - before) / before)


@pytest.mark.parametrize(
    ("measure", "value", "code"),
    [
        ("ratio", 1.1, 0),
        ("ratio", 1.2, 0),  # within the margin
        ("ratio", 1.3, 1),
        ("ratio", 0.2, 0),  # better
        ("peak_memory_ratio", 1.5, 1),
        ("bandwidth_share", 0.6, 1),
        ("bandwidth_share", 0.99, 0),
        ("flop_utilisation", 0.4, 1),
    ],
)
def test_a_regression_beyond_the_margin_fails(
    tmp_path: Path, capsys: Any, measure: str, value: float, code: int
) -> None:
    baseline = stored(tmp_path / "a", **{NAME: INFO})
    new = stored(tmp_path / "b", **{NAME: INFO | {measure: value}})
    assert main([baseline, new, "--margin", "0.15"]) == code
    assert ("REGRESSION" in capsys.readouterr().out) == (code == 1)


def test_times_are_not_compared(tmp_path: Path) -> None:
    slow = {**INFO, "peer_seconds": 100.0, "tokens_per_second": 1}
    assert main([stored(tmp_path / "a", **{NAME: INFO}), stored(tmp_path / "b", **{NAME: slow}), "--margin", "0"]) == 0


def test_of_a_folder_the_latest_result_of_each_benchmark_counts(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    stored(folder, "0001.json", "2026-01-02", **{NAME: INFO})
    stored(folder, "0002.json", "2026-01-01", **{NAME: INFO | {"ratio": 9.0}, "other": INFO})
    new = stored(tmp_path / "b", **{NAME: INFO, "other": INFO})
    assert main([str(folder), new]) == 0
    assert main([new, str(folder)]) == 0


@pytest.mark.parametrize(
    ("baseline", "complaint"),
    [
        (None, "cannot be read"),
        ("", "cannot be read"),
        ('{"benchmarks": [', "cannot be read"),
        ("[]", "no result of pytest-benchmark"),
        ('{"datetime": "2026"}', "no result of pytest-benchmark: 'benchmarks'"),
        ('{"datetime": "2026", "benchmarks": [{"fullname": "x"}]}', "no result of pytest-benchmark: 'extra_info'"),
        ('{"datetime": "2026", "benchmarks": []}', "holds no benchmark"),
    ],
)
def test_a_missing_or_unreadable_baseline_fails(
    tmp_path: Path, capsys: Any, baseline: str | None, complaint: str
) -> None:
    file = tmp_path / "baseline.json"
    if baseline is not None:
        file.write_text(baseline)
    assert main([str(file), stored(tmp_path / "b", **{NAME: INFO})]) == 2
    assert complaint in capsys.readouterr().err


def test_an_empty_folder_is_no_baseline(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), stored(tmp_path / "b", **{NAME: INFO})]) == 2
    assert "holds no stored result" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "now", "complaint"),
    [
        ({NAME: INFO}, {NAME: INFO, "new": INFO}, "the baseline lacks new"),
        ({NAME: INFO, "gone": INFO}, {NAME: INFO}, "the new result lacks gone"),
        ({NAME: INFO}, {NAME: INFO | {"device": "NVIDIA H100"}}, "ran on 'cpu' before and on 'NVIDIA H100' now"),
        ({NAME: {"device": "cpu"}}, {NAME: INFO}, "has ratio = None before"),
        ({NAME: INFO}, {NAME: {"device": "cpu"}}, "has ratio = None now"),
        ({NAME: INFO}, {NAME: INFO | {"ratio": float("nan")}}, "has ratio = nan now"),
        ({NAME: INFO}, {NAME: INFO | {"ratio": "1.1"}}, "has ratio = '1.1' now"),
        ({NAME: INFO | {"ratio": 0}}, {NAME: INFO}, "has ratio = 0 before"),
        ({NAME: {}}, {NAME: {}}, "has none of ratio"),
    ],
)
def test_what_cannot_be_compared_fails(tmp_path: Path, capsys: Any, before: Any, now: Any, complaint: str) -> None:
    assert main([stored(tmp_path / "a", **before), stored(tmp_path / "b", **now)]) == 2
    assert complaint in capsys.readouterr().err


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    files = stored(tmp_path / "a", **{NAME: INFO}), stored(tmp_path / "b", **{NAME: INFO | {"ratio": 2.0}})
    for pair, code in ((files, 1), ((files[0], files[0]), 0), ((files[0], str(tmp_path / "none.json")), 2)):
        ran = subprocess.run([sys.executable, regression.__file__, *pair], capture_output=True, text=True)
        assert ran.returncode == code, ran.stderr
