"""Test that graders take time linear in the length of an answer, and that slow steps show their progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.cli.streams import said_to_stderr
from rlcircuits.common import progress
from rlcircuits.common.logs import logged_by
from rlcircuits.questions.arithmetic import grade as grade_arithmetic
from rlcircuits.questions.grading.exact_grader import grade_exact
from rlcircuits.questions.grading.math_grader import grade_math

LENGTH = 24_000
"""Characters of an answer, about 6,000 tokens, as long as one that never ends."""
TOO_LONG = 8.0
"""Seconds. Linear time takes half a second; quadratic time took minutes."""

WRITTEN = (
    r"\boxed{¦\boxed{1}¦\boxed 5 ¦\fbox{¦{¦}¦\{¦(¦)¦[¦]¦|¦^¦_¦\¦\\¦$¦$1$ ¦$1¦$$¦\(¦\[¦\text{¦\text{a} ¦\frac{¦"
    r"\frac{1}{2}¦\sqrt(¦\sqrt¦\begin{cases}¦\begin{aligned} x &= 1 \\ ¦1 ¦1,¦12, ¦1,000,¦5%¦%¦5e5¦1e¦3:2¦3:¦"
    r"5/¦5 / ¦/¦a/¦5a/¦5 ft ¦km/¦- ¦-a¦=¦5=¦x<¦x<1 ¦\cup ¦\in¦>¦<¦####¦answer is ¦answer is 5. ¦answers to ¦"
    r"</think>¦<think>¦ ¦. ¦a. ¦Mr. ¦and 5 ¦5 and ¦or ¦5 or ¦not ¦not 5 ¦at least ¦3 to 4 ¦twenty-¦"
    r"two hundred ¦2 thousand ¦thousand ¦¼¦°¦5° ¦₹1¦Rs. 1 ¦é¦'¦a'¦*¦**¦__¦~¦\,¦5 per "
)
PIECES = [*WRITTEN.split("¦"), "\n", "\t", "#### 5\n"]


@pytest.mark.parametrize("grade", [grade_math, grade_exact, grade_arithmetic])
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join), st.sampled_from(["5", "x + 1"]))
@settings(max_examples=25)
def test_what_is_said_over_and_over_is_graded_in_linear_time(
    grade: Callable[[str, str], bool], piece: str, gold: str
) -> None:
    text = piece * (LENGTH // len(piece))
    start = time.process_time()
    assert grade(text, gold) in (True, False)
    assert time.process_time() - start < TOO_LONG


@pytest.mark.parametrize("piece", [r"\boxed{", "5%", "1 ", "12, ", "(", "5 and "])
@pytest.mark.parametrize("grade", [grade_math, grade_exact])
def test_what_models_repeat_is_graded_in_linear_time(grade: Callable[[str, str], bool], piece: str) -> None:
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    assert not grade(text, "7")
    assert time.process_time() - start < TOO_LONG


@pytest.fixture
def slow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLOW", 0.05)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def test_slow_steps_say_how_far_they_are(slow_at_once: None, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    with logged_by(seen.append), progress.progress_when_slow("grading", 3) as advance:
        advance()
        wait_for(lambda: bool(seen))
        advance()
    assert seen == ["grading: 1 of 3"]
    assert capsys.readouterr() == ("", "")  # the library prints nothing


def test_quick_steps_say_nothing() -> None:
    seen: list[str] = []
    with logged_by(seen.append), progress.progress_when_slow("grading", 2) as advance:
        advance()
        advance()
    assert seen == []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard error look like a terminal."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_slow_steps_within_a_bar_are_a_task_of_it(slow_at_once: None, terminal: None) -> None:
    with progress.progress_bar(True) as bar:
        whole = bar.add_task("answers", total=9)
        with progress.progress_when_slow("grading", 3, within=bar) as advance:
            wait_for(lambda: len(bar.tasks) == 2)
            advance()
            assert [(task.description, task.completed) for task in bar.tasks] == [("answers", 0), ("grading", 1)]
        assert [task.id for task in bar.tasks] == [whole]


def test_a_quiet_command_shows_no_bar_of_slow_steps(
    slow_at_once: None, terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with said_to_stderr(quiet=True, verbose=False), progress.progress_when_slow("grading", 3) as advance:
        advance()
        time.sleep(0.2)
    assert capsys.readouterr() == ("", "")


def test_an_error_within_ends_the_steps(slow_at_once: None, terminal: None) -> None:
    bar = progress.progress_bar(True)

    def fail() -> None:
        with progress.progress_when_slow("grading", 3, within=bar):
            wait_for(lambda: len(bar.tasks) == 1)
            raise ZeroDivisionError

    with bar, pytest.raises(ZeroDivisionError):
        fail()
    assert bar.tasks == []
