"""Show the benchmarks' ratios: absolute times depend on the machine, and pytest-benchmark's table has only those."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Print one line a benchmark: its ratio to what it is measured against, in time and in peak memory."""
    session = getattr(config, "_benchmarksession", None)
    rows = [
        [
            benchmark.group,
            benchmark.param or "",
            f"{info['ratio']:.2f} ×",
            f"{info['peak_memory_ratio']:.2f} ×",
            f"{info['tokens_per_second']:,}",
        ]
        for benchmark in (session.benchmarks if session else [])
        if "peak_memory_ratio" in (info := benchmark.extra_info)
    ]
    if rows:
        terminalreporter.section("speed, as ratios within this run")
        headers = ["", "", "time", "peak memory", "tokens/s"]
        terminalreporter.write_line(tabulate(rows, headers=headers, disable_numparse=True))
