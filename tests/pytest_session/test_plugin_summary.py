"""The pytest plugin: the file of --rlcircuits-summary, whatever the outcome, and under pytest-xdist."""

from __future__ import annotations

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.plugin_runs import ONE_PAIR, Declare, FakePipeline, Run

from rlcircuits.common.errors import RLCircuitsError

FLAT = [True] * 40


def test_the_outcome_stands_first(run: Run, pipeline: FakePipeline, pytester: pytest.Pytester) -> None:
    result = run(*ONE_PAIR, "--rlcircuits-summary=new/summary.md")
    assert result.ret == 0
    text = (pytester.path / "new" / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("### ✅ rlcircuits: holds\n\n**Why:** shows the study's pattern")
    assert "| base-to-tuned | ✅ holds: shows the study's pattern |" in text


def test_an_inconclusive_pair_and_a_pairs_file(
    run: Run, pipeline: FakePipeline, declare: Declare, pytester: pytest.Pytester
) -> None:
    pipeline.options = {"right_after": FLAT}
    declare(PAIRS)
    result = run("--pairs=pairs.toml", "--rlcircuits-summary=summary.md", "--rlcircuits-on-inconclusive=warn")
    assert result.ret == 0
    text = (pytester.path / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("### ❔ rlcircuits: inconclusive")
    assert text.count("❔ inconclusive") == 2


def test_pairs_that_cannot_be_measured(run: Run, pipeline: FakePipeline, pytester: pytest.Pytester) -> None:
    pipeline.error = RLCircuitsError("there is no folder <b>")
    result = run(*ONE_PAIR, "--rlcircuits-summary=summary.md")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = (pytester.path / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("### ⚠️ rlcircuits: no verdict\n\n| pair ")
    assert "- **base-to-tuned**: base-to-tuned could not be measured: there is no folder &lt;b&gt;" in text


def test_a_session_whose_tests_ask_for_no_pair(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine="def test_nothing(): pass")
    assert run("--rlcircuits-summary=summary.md").ret == 0
    assert "no pair was measured" in (pytester.path / "summary.md").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_refused_before_any_work(run: Run, pipeline: FakePipeline) -> None:
    result = run(*ONE_PAIR, "--rlcircuits-summary=.")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --rlcircuits-summary: *is a folder; a file's name is wanted*"])
    assert not pipeline.calls
