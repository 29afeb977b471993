"""What a pytest session reports of its pairs: the outcome, one table, which tests have no verdict, and the exit code.

With pytest-xdist, tests run in workers, and the controller, which prints, gets only their reports. Each report
therefore carries which pairs its test asked for, whether the test has no verdict, and the outcome on which it failed.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.pytest_session.workers import is_controller, is_worker

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.comparison.verdict import Finding
    from rlcircuits.pytest_session.session import Session
    from rlcircuits.report.gated_signs import GatedSigns
    from rlcircuits.report.headline import Headline

EXIT_INCONCLUSIVE = 6
"""Exit code of a session whose tests failed on an inconclusive outcome alone; pytest's own codes end with 5."""

FINDING: pytest.StashKey[Finding] = pytest.StashKey()
"""Where a test keeps the finding that it asked for."""

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
        self._failed_on: set[str | None] = set()
        """The outcomes on which tests failed; None for a test that failed on something else."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Add to the report which pairs its test asked for, whether it has no verdict, and the outcome it failed on."""
        report = yield
        pairs, failure = self._session.take_test_record()
        if pairs:
            report.rlcircuits_pairs = pairs
        if failure is not None and report.failed:
            report.rlcircuits_unmeasured = _FAULT if failure.is_fault else _BAD_INPUT
        finding = item.stash.get(FINDING, None)
        asserted = call.excinfo is not None and call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
        if finding is not None and report.failed and asserted:
            report.rlcircuits_failed_on = finding.outcome
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what the report carries."""
        self._pairs.update(getattr(report, "rlcircuits_pairs", ()))
        if (reason := _why_no_verdict(report)) is not None:
            self._reasons.add(reason)
        if report.failed:
            self._failed_on.add(getattr(report, "rlcircuits_failed_on", None))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Collect what cannot be collected."""
        if report.failed:
            self._failed_on.add(None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a test as an error, not a failure, if it asked for a pair itself and the pair could not be measured."""
        return ("error", "E", "ERROR") if report.when == "call" and _why_no_verdict(report) is not None else None

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Give a session an exit code of its own.

        It has one if a test has no verdict, if gated signs fail or could not be measured, or if the release is
        inconclusive.
        """
        if is_worker(self._config):
            return
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            session.exitstatus = self._exit_code(exitstatus)
        if self._session.summary is not None:
            self._write_summary(self._session.summary)

    def _exit_code(self, exitstatus: int) -> int:
        failed = exitstatus == pytest.ExitCode.TESTS_FAILED
        found: list[int] = [code for reason, code in _EXIT_CODES.items() if reason in self._reasons] if failed else []
        if not found and self._pairs and (signs := self._signs()) is not None:
            if signs.problems:
                of_fault = any(problem.is_fault for problem in signs.problems)
                found = [_EXIT_CODES[_FAULT if of_fault else _BAD_INPUT]]
            elif signs.failing:
                found = [pytest.ExitCode.TESTS_FAILED]
        if not found and failed and self._failed_for_want_of_evidence():
            found = [EXIT_INCONCLUSIVE]
        return next(iter(found), exitstatus)

    def _failed_for_want_of_evidence(self) -> bool:
        """Return whether all tests that failed did so on an outcome, and the release is inconclusive all the same."""
        if self._failed_on == {"inconclusive"}:
            return True
        if not self._failed_on or not self._failed_on <= {"inconclusive", "does not hold"}:
            return False
        headline = self._headline()
        return headline is not None and headline.outcome == "inconclusive"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print one table of all pairs measured, whether their tests passed or failed."""
        if not self._pairs:
            return
        terminalreporter.ensure_newline()
        terminalreporter.section("rlcircuits")
        for line in self._summary():
            terminalreporter.write_line(line)

    def _judged(self) -> tuple[list[Comparison], dict[str, Failure]]:
        """Return the comparisons of the pairs that tests asked for, and why others have none or cannot be judged."""
        if is_controller(self._config):
            self._session.read_from_workers(self._pairs)
        shown, failures = [], {}
        for name in [pair.name for pair in self._session.file.pairs if pair.name in self._pairs]:
            comparison = self._session.comparisons.get(name)
            found = self._session.failures[name] if comparison is None else self._session.judge(comparison)
            if isinstance(found, Failure):
                failures[name] = found
            elif comparison is not None:
                shown.append(comparison)
        return shown, failures

    def _headline(self) -> Headline | None:
        from rlcircuits.report.headline import make_headline

        shown, failures = self._judged()
        known = {pair.name: tuple(pair.does_not_hold) for pair in self._session.file.pairs}
        return make_headline(shown, tuple(failures), known) if shown else None

    def _signs(self) -> GatedSigns | None:
        shown, _ = self._judged()
        return self._session.signs.judge(self._session.file, [comparison.name for comparison in shown])

    def _summary(self) -> list[str]:
        shown, failures = self._judged()
        messages = [failure.message for failure in failures.values()]
        if not shown:
            return messages
        from rlcircuits.report.pools import make_pools
        from rlcircuits.report.terminal import summary_table

        try:
            headline = self._headline()
            assert headline is not None
            pools = [line for pool in make_pools(shown, self._session.file.pools) for line in ("", *pool.lines)]
            table = [*headline.lines, "", summary_table(shown), *pools, "", headline.line]
            if (signs := self._signs()) is not None:
                first = [signs.line] if signs.failing else []
                table = [*first, *table, "", *signs.tables.splitlines()]
                messages += [problem.message for problem in signs.problems]
        except Exception as error:
            table = [describe_failure(error, self._session.output).message]
        return [*table, *(f"{one.name}: {one.note}" for one in shown if one.note), *messages]

    def _write_summary(self, path: Path) -> None:
        from rlcircuits.report.markdown import summary_markdown, write_summary
        from rlcircuits.report.pools import make_pools

        try:
            shown, failures = self._judged() if self._pairs else ([], {})
            messages = {name: failure.message for name, failure in failures.items()}
            pools = make_pools(shown, self._session.file.pools) if shown else []
            signs = self._signs() if shown else None
            text = summary_markdown(self._headline() if shown else None, shown, messages, pools, signs)
        except Exception as error:  # the tests' results are reported all the same
            text = summary_markdown(None, [], {"summary": describe_failure(error, self._session.output).message})
        write_summary(text, path)


def _why_no_verdict(report: pytest.TestReport) -> str | None:
    return getattr(report, "rlcircuits_unmeasured", None)
