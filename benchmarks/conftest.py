"""Keep the benchmarks' results by machine, and show their ratios: absolute times depend on the machine."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from tabulate import tabulate

RESULTS = Path(__file__).parent / "results"
# What pytest-benchmark uses where the user names no storage.
_DEFAULT_STORAGE = "file://./.benchmarks"


def machine() -> str:
    """What this machine's results are kept under: its GPU's name, or its processor's kind and number of cores."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        name = f"cpu {platform.machine()} {os.cpu_count()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice between a timing that settles the bounds and one that settles the second digit."""
    parser.getgroup("rlcircuits").addoption(
        "--rlcircuits-thorough",
        action="store_true",
        help="judge all shipped pairs, time as many rounds as the tables of docs/performance.md took, time the deep "
        "model too, and measure the memory where it has no bound",
    )


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Return whether timings take as many rounds as the documentation's tables did."""
    return bool(pytestconfig.getoption("--rlcircuits-thorough", default=False))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: Any) -> None:
    """Let ``--benchmark-save`` keep results in ``benchmarks/results/<machine>/``."""
    options = config.option
    used = any(getattr(options, f"benchmark_{name}", None) for name in ("save", "autosave", "compare"))
    if used and options.benchmark_storage == _DEFAULT_STORAGE:
        options.benchmark_storage = f"file://{RESULTS / machine()}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A benchmark that is not timed, or timed beside others, has nothing to judge; some are too long for each run."""
    if "benchmark" not in getattr(item, "fixturenames", ()):
        return
    if hasattr(item.config, "workerinput"):  # a worker of pytest-xdist
        pytest.skip("timings need the machine to themselves: run them without -n")
    if item.config.getoption("benchmark_disable"):
        pytest.skip("benchmarks are disabled")
    if item.get_closest_marker("thorough") and not item.config.getoption("--rlcircuits-thorough", default=False):
        pytest.skip("takes a minute: --rlcircuits-thorough runs it")


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Record the versions that speed depends on, and not what the machine is called."""
    for private in ("node", "release"):
        machine_info.pop(private, None)
    machine_info["machine_name"] = machine()
    machine_info["versions"] = {
        name: _version(name) for name in ("torch", "triton", "transformers", "transformer_lens")
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Print one line a benchmark: its ratios to what it is measured against."""
    session = getattr(config, "_benchmarksession", None)
    rows = []
    for benchmark in session.benchmarks if session else []:
        info = benchmark.extra_info
        shown = [
            f"{info['ratio']:.2f} ×" if "ratio" in info else "",
            f"{info['peak_memory_ratio']:.2f} ×" if "peak_memory_ratio" in info else "",
            f"{info['tokens_per_second']:,}" if "tokens_per_second" in info else "",
            f"{info['flop_utilisation']:.0%}" if "flop_utilisation" in info else "",
            f"{info['bandwidth_share']:.0%}" if "bandwidth_share" in info else "",
        ]
        if any(shown):
            rows.append([benchmark.group, benchmark.param or "", *shown])
    if rows:
        terminalreporter.section("speed, as ratios within this run")
        headers = ["", "", "time", "peak memory", "tokens/s", "of peak FLOP/s", "of copy"]
        terminalreporter.write_line(tabulate(rows, headers=headers, disable_numparse=True))
