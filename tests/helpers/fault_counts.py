"""Summarize the fault campaign (`tests/faults/`) at the end of pytest's output, with and without xdist."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tabulate import tabulate

PROPERTY = "fault"
"""The test property that holds a fault's kind and outcome."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show how many faults were tried, how many were refused in one sentence, and how many ran."""
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, found in report.user_properties:
                if name == PROPERTY:
                    counts.setdefault(found[0], Counter())[found[1]] += 1
    if not counts:
        return
    counts = {**dict(sorted(counts.items())), "all": sum(counts.values(), Counter())}
    headers = ("what was malformed", "tried", "refused in one sentence", "ran as it may", "anything else")
    rows = [[kind, found.total(), found["refused"], found["ran"], found["else"]] for kind, found in counts.items()]
    terminalreporter.section("fault campaign")
    terminalreporter.write_line(tabulate(rows, headers))
