"""What a pytest session reports of its pairs: one table, which tests have no verdict, and the exit code.

With pytest-xdist, tests run in workers, and the controller, which prints, gets only their reports. Each report
therefore carries which pairs its test asked for, and whether the test has no verdict.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.pytest_session.workers import is_controller, is_worker

if TYPE_CHECKING:
    from rlcircuits.pytest_session.session import Session

_FAULT, _BAD_INPUT = "fault", "bad input"
_EXIT_CODES = {_FAULT: pytest.ExitCode.INTERNAL_ERROR, _BAD_INPUT: pytest.ExitCode.USAGE_ERROR}
"""Exit codes in place of that of failed tests; the first that applies is used."""


class Reports:
    """Hooks that mark the reports of tests, and sum them up."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._pairs: set[str] = set()
        self._reasons: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Add to the report which pairs its test asked for, and whether the test has no verdict."""
        report = yield
        pairs, failure = self._session.take_test_record()
        if pairs:
            report.rlcircuits_pairs = pairs
        if failure is not None and report.failed:
            report.rlcircuits_unmeasured = _FAULT if failure.is_fault else _BAD_INPUT
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what the report carries."""
        self._pairs.update(getattr(report, "rlcircuits_pairs", ()))
        if (reason := _why_no_verdict(report)) is not None:
            self._reasons.add(reason)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a test as an error, not a failure, if it asked for a pair itself and the pair could not be measured."""
        return ("error", "E", "ERROR") if report.when == "call" and _why_no_verdict(report) is not None else None

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Give a session in which a test has no verdict an exit code of its own."""
        if exitstatus == pytest.ExitCode.TESTS_FAILED and not is_worker(self._config):
            found = (code for reason, code in _EXIT_CODES.items() if reason in self._reasons)
            session.exitstatus = next(found, exitstatus)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print one table of all pairs measured, whether their tests passed or failed."""
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
            found = self._session.failures[name] if comparison is None else self._session.judge(comparison)
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


def _why_no_verdict(report: pytest.TestReport) -> str | None:
    return getattr(report, "rlcircuits_unmeasured", None)
