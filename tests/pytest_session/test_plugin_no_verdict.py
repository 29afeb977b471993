"""The pytest plugin where a pair cannot be measured or judged: errors, exit codes, interruptions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.plugin_runs import ONE_PAIR, Declare, FakePipeline, Run

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.pair import Pair


def test_a_pair_that_cannot_be_measured_fails_each_test_shortly(run: Run, pipeline: FakePipeline) -> None:
    pipeline.error = RLCircuitsError("org/base has no tokenizer")
    result = run(*ONE_PAIR)
    result.assert_outcomes(errors=4)
    assert len(pipeline.calls) == 1
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    wanted = "base-to-tuned could not be measured: org/base has no tokenizer"
    assert sum(line == wanted for line in result.outlines) == 4 + 1  # each test, and below all
    assert "direct cause" not in result.stdout.str()
    assert "another exception" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    assert "plugin.py" not in result.stdout.str()


def test_a_full_disk_is_no_fault_of_ours(run: Run, pipeline: FakePipeline) -> None:
    pipeline.error = OSError(28, "No space left on device")
    result = run(*ONE_PAIR)
    result.assert_outcomes(errors=4)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "base-to-tuned could not be measured: No space left on device" in result.outlines
    assert "plugin.py" not in result.stdout.str()


def test_a_fault_of_ours_shows_its_traceback_once(run: Run, pipeline: FakePipeline) -> None:
    pipeline.error = KeyError("oops")
    result = run(*ONE_PAIR)
    result.assert_outcomes(errors=4)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert len(pipeline.calls) == 1
    wanted = (
        "base-to-tuned could not be measured: internal error, a fault of rlcircuits and no verdict: KeyError: 'oops'; "
    )
    lines = [line for line in result.outlines if line.startswith(wanted)]
    assert len(lines) == 4 + 1
    assert result.outlines.count("KeyError: 'oops'") == 1  # the traceback's last line
    (report,) = re.findall(r"the traceback is in (\S+), please report it", lines[0])
    assert "KeyError: 'oops'" in Path(report).read_text()
    Path(report).unlink()


def test_a_fault_in_judging_one_measure_is_no_verdict_either(
    run: Run, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(_: Comparison) -> Any:
        raise ZeroDivisionError("in judging")

    with monkeypatch.context() as patched:
        patched.setattr("rlcircuits.comparison.verdict.judge", judge)
        result = run(*ONE_PAIR, "--rlcircuits-output=out")
    result.assert_outcomes(errors=4)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    wanted = (
        "base-to-tuned could not be judged: internal error, a fault of rlcircuits and no verdict: ZeroDivisionError: "
    )
    assert sum(line.startswith(wanted) for line in result.outlines) == 4 + 1
    assert result.outlines.count("ZeroDivisionError: in judging") == 1
    assert len(list(Path("out").glob("rlcircuits-fault-*.txt"))) == 1


def test_a_test_that_asks_for_its_pair_itself_is_an_error_too(
    run: Run, pipeline: FakePipeline, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_mine="""
        def test_named(compared): compared("base-to-tuned")
        def test_other(): assert False
        """
    )
    pipeline.error = RLCircuitsError("org/base has no tokenizer")
    result = run(*ONE_PAIR, "-v")
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(["*::test_named ERROR*", "*ERROR at call of test_named*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def fails_for(pipeline: FakePipeline, errors: dict[str, Exception | None]) -> Callable[..., Comparison]:
    """A pipeline in which some pairs fail, and the others do not hold."""

    def run_pair(pair: Pair, *arguments: Any, **options: Any) -> Comparison:
        pipeline.error = errors[pair.name]
        return pipeline(pair, *arguments, **options)

    pipeline.options = {"rise": False, "right_after": [True] * 30 + [False] * 10}
    return run_pair


@pytest.mark.parametrize(
    ("one", "two", "code", "outcomes"),
    [
        (None, None, pytest.ExitCode.TESTS_FAILED, {"failed": 8}),
        (RLCircuitsError("bad"), None, pytest.ExitCode.USAGE_ERROR, {"failed": 4, "errors": 4}),
        (None, KeyError("oops"), pytest.ExitCode.INTERNAL_ERROR, {"failed": 4, "errors": 4}),
        (KeyError("oops"), RLCircuitsError("bad"), pytest.ExitCode.INTERNAL_ERROR, {"errors": 8}),
    ],
)
def test_what_is_no_verdict_decides_the_exit_code(
    run: Run,
    pipeline: FakePipeline,
    declare: Declare,
    monkeypatch: pytest.MonkeyPatch,
    one: Exception | None,
    two: Exception | None,
    code: int,
    outcomes: dict[str, int],
) -> None:
    declare(PAIRS)
    monkeypatch.setattr("rlcircuits.release.run.run_pair", fails_for(pipeline, {"one": one, "two": two}))
    result = run("--pairs=pairs.toml", "--rlcircuits-output=out")
    result.assert_outcomes(**outcomes)
    assert result.ret == code
    assert [call[0].name for call in pipeline.calls] == ["one", "two"]


def test_an_interruption_stops_the_session(run: Run, pipeline: FakePipeline, declare: Declare) -> None:
    declare(PAIRS)
    pipeline.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        run("--pairs=pairs.toml")
    assert [call[0].name for call in pipeline.calls] == ["one"]
