"""What a pytest session shows of its pairs: the one table, what is no verdict, and the exit code.

Under pytest-xdist tests run in workers and are shown by the controller, which hears of them by their reports. What
has to be known there of a test is therefore written onto its report.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.pytest_session.shared import is_controller, is_worker

if TYPE_CHECKING:
    from rlcircuits.pytest_session.session import Session

FAULT, BAD_INPUT = "fault", "bad input"
_EXIT_CODES = {FAULT: pytest.ExitCode.INTERNAL_ERROR, BAD_INPUT: pytest.ExitCode.USAGE_ERROR}
"""Instead of that of failed tests; the first that happened counts."""


class Reports:
    """Hooks around tests' reports."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._pairs: set[str] = set()
        self._unmeasured: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Write onto the report which pairs its test asked for, and whether it came to no verdict."""
        report = yield
        pairs, failure = self._session.asked_since()
        if pairs:
            report.rlcircuits_pairs = pairs
        if failure is not None and report.failed:
            report.rlcircuits_unmeasured = FAULT if failure.is_fault else BAD_INPUT
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what is on the report."""
        self._pairs.update(getattr(report, "rlcircuits_pairs", ()))
        if (found := _unmeasured(report)) is not None:
            self._unmeasured.add(found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a test that asked for its pair itself, and found it could not be measured, as an error."""
        return ("error", "E", "ERROR") if report.when == "call" and _unmeasured(report) is not None else None

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Tell what is no verdict from a verdict that does not hold."""
        if exitstatus == pytest.ExitCode.TESTS_FAILED and not is_worker(self._config):
            found = (code for what, code in _EXIT_CODES.items() if what in self._unmeasured)
            session.exitstatus = next(found, exitstatus)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the one table of all pairs measured, whether tests passed or failed."""
        if not self._pairs:
            return
        if is_controller(self._config):
            self._session.read_from_workers(self._pairs)
        terminalreporter.ensure_newline()
        terminalreporter.section("rlcircuits")
        for line in self._summary():
            terminalreporter.write_line(line)

    def _summary(self) -> list[str]:
        asked = [pair.name for pair in self._session.file.pairs if pair.name in self._pairs]
        shown, failures = [], []
        for name in asked:
            comparison = self._session.comparisons.get(name)
            found = self._session.failures[name] if comparison is None else self._session.judged(comparison)
            if isinstance(found, Failure):
                failures.append(found.message)
            elif comparison is not None:
                shown.append(comparison)
        if not shown:
            return failures
        from rlcircuits.report.terminal import summary_table

        try:
            table = summary_table(shown)
        except Exception as error:
            table = describe_failure(error, self._session.output).message
        return [table, *(f"{one.name}: {one.note}" for one in shown if one.note), *failures]


def _unmeasured(report: pytest.TestReport) -> str | None:
    return getattr(report, "rlcircuits_unmeasured", None)
