"""The pytest plugin given no pair, or options that do not fit together: one sentence each."""

from __future__ import annotations

import pytest
from helpers.plugin_runs import ONE_PAIR, Run


def test_a_gate_without_pairs_fails_and_says_what_to_give(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        def test_effect(effect): pass
        def test_whole(pair_comparison): pass
        def test_named(compared): compared("one")
        def test_other(): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=3, passed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = "no pair of checkpoints was given: use --before=DIR --after=DIR"
    assert sum(line.startswith(message) for line in result.outlines) == 3
    assert "plugin.py" not in result.stdout.str()
    run("-k", "other").assert_outcomes(passed=1, deselected=3)
    assert not any(line.startswith("rlcircuits:") for line in result.outlines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--before", "a"], "--before was given without --after; a pair needs both"),
        (["--after", "a"], "--after was given without --before; a pair needs both"),
        (["--before", "a", "--after", "b"], "--before and --after need --algorithm*"),
        ([*ONE_PAIR, "--pairs", "x.toml"], "--pairs and --before were both given*"),
        (["--algorithm", "grpo"], "--algorithm is for --before and --after*"),
        ([*ONE_PAIR[:-1], "magic"], "the pair, key 'algorithm': algorithm is 'magic'; it must be one of grpo, *"),
        ([*ONE_PAIR, "--questions", "riddles"], "the pair, key 'questions': question set 'riddles' is not known*"),
        ([*ONE_PAIR, "--rlcircuits-k", "3"], "the settings: k is 3; *"),
        (["--pairs", "x.toml"], "*x.toml: there is no such file*"),
        (
            ["--before=./gone", "--after=org/tuned", "--algorithm=grpo"],
            "--before: there is no folder *gone, and './gone' cannot be a hub id either",
        ),
        (["--before=org/base", "--after=a/b/c", "--algorithm=grpo"], "--after: there is no folder *a/b/c, and *"),
        (
            [*ONE_PAIR, "--rlcircuits-output=test_mine.py"],
            "--rlcircuits-output: no file can be written in the folder *test_mine.py: it is a file",
        ),
        (
            [*ONE_PAIR, "--rlcircuits-output=test_mine.py/out"],
            "--rlcircuits-output: no file can be written in the folder *test_mine.py/out: Not a directory",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
