"""Progress where there is no terminal: a line a minute on the logger, with tokens a second and the time left."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common import progress
from rlcircuits.common.logs import LOGGER, log_detail, log_stage, logged_by

LINE = re.compile(r"answers: \d+ of 40(, [\d,]+ tokens/s)?(, [\d a-z]+ left)?")


@pytest.fixture
def quick_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.02)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_lines_say_how_many_how_fast_and_how_long(quick_lines: None, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    with logged_by(seen.append), progress.progress_bar(True) as bar:
        task = bar.add_task("answers", total=40)
        for _ in range(3):
            time.sleep(0.02)
            progress.advance(bar, task, 8, 160)
        wait_for(lambda: "24 of 40" in "".join(seen))
    assert all(LINE.fullmatch(line) for line in seen)
    assert re.fullmatch(r"answers: 24 of 40, [\d,]+ tokens/s, \d+ s left", seen[-1])
    assert capsys.readouterr() == ("", "")


def test_no_line_comes_after_the_end_or_of_what_is_done(quick_lines: None) -> None:
    seen: list[str] = []
    threads = threading.active_count()
    with logged_by(seen.append):
        with progress.progress_bar(True) as bar:
            done, open_one = bar.add_task("done", total=1), bar.add_task("open", total=None)
            bar.advance(done)
            bar.advance(open_one)
            wait_for(lambda: bool(seen))
        said = len(seen)
        assert threading.active_count() == threads
        time.sleep(0.06)
    assert set(seen) == {"open: 1"}
    assert len(seen) == said


def test_nothing_is_said_unless_it_is_asked_for(quick_lines: None) -> None:
    seen: list[str] = []
    with logged_by(seen.append), progress.progress_bar(False) as bar:
        progress.advance(bar, bar.add_task("answers", total=40), 8)
        time.sleep(0.05)
    assert seen == []


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10_000)), max_size=8))
def test_steps_and_tokens_add_up(parts: list[tuple[int, int]]) -> None:
    with progress.progress_bar(False) as bar:
        other = bar.add_task("other")
        task = bar.add_task("answers", total=1000)
        bar.remove_task(other)
        for steps, tokens in parts:
            progress.advance(bar, task, steps, tokens)
        (found,) = bar.tasks
        assert found.completed == sum(steps for steps, _ in parts)
        assert found.fields.get("tokens", 0) == sum(tokens for _, tokens in parts)


@given(st.floats(0, 1e6))
def test_a_time_is_told_in_its_two_largest_units(seconds: float) -> None:
    text = progress._duration(seconds)
    units = {"s": 1, "min": 60, "h": 3600}
    found = sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)", text))
    assert found == pytest.approx(seconds, abs=31 if seconds >= 60 else 0.51)


def test_the_logger_is_as_before_afterwards() -> None:
    seen: list[str] = []
    before = LOGGER.level, list(LOGGER.handlers)
    with logged_by(seen.append):
        log_stage("stage 1 %s")
        log_detail("a detail")
    with logged_by(seen.append, logging.DEBUG):
        log_detail("another")
    log_stage("unheard")
    assert seen == ["stage 1 %s", "another"]
    assert (LOGGER.level, LOGGER.handlers) == before


def test_a_program_gets_the_lines_by_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rlcircuits"):
        log_stage("before answers 40 questions")
    assert caplog.messages == ["before answers 40 questions"]
