"""The pytest plugin: tests and exit code of each outcome, and --rlcircuits-on-inconclusive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.paths import ROOT
from helpers.plugin_runs import ONE_PAIR, PLUGIN, USERS_TESTS, Declare, FakePipeline, Run

from rlcircuits.comparison.circuit_checks import CircuitChecks
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.effects import AccuracyClaim
from rlcircuits.pytest_session.reports import EXIT_INCONCLUSIVE
from rlcircuits.release.pair import Pair

FLAT, FELL, FELL_BY_FIVE = [True] * 40, [True] * 30 + [False] * 10, [True] * 35 + [False] * 5


def measured_as(pipeline: FakePipeline, **right_after: list[bool]) -> Callable[..., Comparison]:
    """A pipeline in which after's answers are these, by the pair's name."""

    def run_pair(pair: Pair, *arguments: Any, **options: Any) -> Comparison:
        pipeline.options = {"right_after": right_after[pair.name]} if pair.name in right_after else {}
        return pipeline(pair, *arguments, **options)

    return run_pair


def test_an_inconclusive_measure_fails_and_has_an_exit_code_of_its_own(run: Run, pipeline: FakePipeline) -> None:
    pipeline.options = {"right_after": FLAT}
    result = run(*ONE_PAIR)
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == EXIT_INCONCLUSIVE == 6
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: base-to-tuned (grpo), accuracy: inconclusive: no clear rise",
            "outcome: inconclusive",
            "why:     accuracy: no clear rise, +0.0 points [[]-6.3, +6.3[]], 1.000 → 1.000",
            "next:    about 5,100 asked questions would settle it: question_count = 5100",
            "pair *",
            "inconclusive: accuracy: no clear rise, *",
        ]
    )


@pytest.mark.parametrize(
    ("right_after", "failed", "code"),
    [
        ({"one": FLAT}, 1, 6),
        ({"one": FLAT, "two": FELL}, 2, 1),
        ({"one": FELL}, 1, 1),
    ],
)
def test_inconclusive_is_the_exit_code_only_where_nothing_worse_is(
    run: Run,
    pipeline: FakePipeline,
    declare: Declare,
    monkeypatch: pytest.MonkeyPatch,
    right_after: dict[str, list[bool]],
    failed: int,
    code: int,
) -> None:
    declare(PAIRS)
    monkeypatch.setattr("rlcircuits.release.run.run_pair", measured_as(pipeline, **right_after))
    result = run("--pairs=pairs.toml")
    result.assert_outcomes(passed=8 - failed, failed=failed)
    assert result.ret == code


def test_another_tests_failure_is_no_want_of_evidence(
    run: Run, pipeline: FakePipeline, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_other="def test_other(): assert False")
    pipeline.options = {"right_after": FLAT}
    assert run(*ONE_PAIR).ret == pytest.ExitCode.TESTS_FAILED
    pytester.makepyfile(test_other="def test_other(effect): raise ValueError(effect)")
    assert run(*ONE_PAIR).ret == pytest.ExitCode.TESTS_FAILED
    pytester.makepyfile(test_other="syntax error")
    assert run(*ONE_PAIR, "--continue-on-collection-errors").ret == pytest.ExitCode.TESTS_FAILED


def test_a_failure_that_is_not_rare_among_several_pairs_is_inconclusive(
    run: Run, pipeline: FakePipeline, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(PAIRS.replace('"grpo"', '"dpo"').replace('"PPO"', '"dpo"'))
    monkeypatch.setattr("rlcircuits.release.run.run_pair", measured_as(pipeline, one=FELL_BY_FIVE))
    result = run("--pairs=pairs.toml")
    result.assert_outcomes(passed=1, failed=1, skipped=6)
    assert result.ret == EXIT_INCONCLUSIVE
    # A release of this pair alone does not hold.
    assert run("--pairs=pairs.toml", "-k", "one").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(("policy", "warnings"), [("warn", 1), ("pass", 0)])
def test_an_inconclusive_measure_is_skipped_where_the_user_wants_it(
    run: Run, pipeline: FakePipeline, policy: str, warnings: int
) -> None:
    pipeline.options = {"right_after": FLAT}
    result = run(*ONE_PAIR, f"--rlcircuits-on-inconclusive={policy}", "-rs")
    result.assert_outcomes(passed=3, skipped=1, warnings=warnings)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [f"rlcircuits: * (grpo), on_inconclusive = {policy}", "outcome: inconclusive", "SKIPPED * no clear rise*"]
    )
    warned = "*InconclusiveWarning: base-to-tuned (grpo), accuracy: inconclusive: no clear rise"
    if policy == "warn":
        result.stdout.fnmatch_lines([warned])
    else:
        result.stdout.no_fnmatch_line(warned)


@pytest.mark.parametrize("policy", ["warn", "pass"])
def test_a_measure_that_does_not_hold_is_not_skipped(run: Run, pipeline: FakePipeline, policy: str) -> None:
    pipeline.options = {"right_after": FELL}
    result = run(*ONE_PAIR, f"--rlcircuits-on-inconclusive={policy}")
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(("policy", "outcomes"), [("fail", {"xfailed": 1}), ("pass", {"skipped": 1})])
def test_an_inconclusive_measure_is_no_surprise_where_it_is_known_not_to_hold(
    run: Run, pipeline: FakePipeline, declare: Declare, policy: str, outcomes: dict[str, int]
) -> None:
    declare(PAIRS + "[pair.does_not_hold]\naccuracy = 'it never rose'\n")
    pipeline.options = {"right_after": FLAT}
    result = run("--pairs=pairs.toml", "-k", "two and accuracy", f"--rlcircuits-on-inconclusive={policy}")
    result.assert_outcomes(**outcomes)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["next:    nothing new: the pairs file declares it under does_not_hold"])


def test_what_a_pair_claims_has_tests_of_its_own(
    run: Run, pipeline: FakePipeline, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(PAIRS + "claimed_accuracy = 0.97\n")
    claim = AccuracyClaim("claimed-accuracy", None, 0.97, 0.9, 400, 0.02, (-0.1, -0.04), 1e-4)

    def run_pair(pair: Pair, *arguments: Any, **options: Any) -> Comparison:
        return replace(pipeline(pair, *arguments, **options), claims=(claim,) if pair.claims else ())

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    result = run("--pairs=pairs.toml", "-v")
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(["*test_effect[[]two-claimed-accuracy[]] FAILED*", "*accuracy of two is below the*"])


@pytest.mark.parametrize(("found", "code"), [(0.3, pytest.ExitCode.TESTS_FAILED), (0.7, 0), (0.5, EXIT_INCONCLUSIVE)])
def test_what_a_pair_asserts_of_its_circuits_has_tests_of_its_own(
    run: Run, pipeline: FakePipeline, declare: Declare, monkeypatch: pytest.MonkeyPatch, found: float, code: int
) -> None:
    declare(PAIRS + "[pair.circuits]\nminimum_faithfulness = 0.5\n")

    def run_pair(pair: Pair, *arguments: Any, **options: Any) -> Comparison:
        rules = {} if pair.circuits is None else pair.circuits.model_dump()
        interval = (found - 0.1, found + 0.1)
        circuits = CircuitChecks(**rules, faithfulness=found, faithfulness_interval=interval) if rules else None
        return replace(pipeline(pair, *arguments, **options), circuits=circuits)

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    result = run("--pairs=pairs.toml", "-v")
    assert result.ret == code
    result.assert_outcomes(passed=9 if not code else 8, failed=1 if code else 0)
    result.stdout.fnmatch_lines([f"*test_effect[[]two-circuit-faithfulness[]] {'FAILED' if code else 'PASSED'}*"])
    if code:
        result.stdout.fnmatch_lines(["*circuit-faithfulness of two: *minimum 0.50, *"])


CONFTEST = """
import sys
from pathlib import Path
import pytest

sys.path.insert(0, {tests!r})

@pytest.fixture(autouse=True)
def made_up_pairs(monkeypatch):
    from helpers.synthetic_comparisons import made_up_comparison
    from rlcircuits.comparison.storage import save_comparison

    def run_pair(pair, settings, *, output=None, **options):
        lost = {lost}.get(pair.name, 0)
        comparison = made_up_comparison(pair.name, "dpo", right_after=[True] * (40 - lost) + [False] * lost)
        save_comparison(comparison, Path(output) / pair.name)
        return comparison

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "code", "outcome"), [({"one": 5}, 6, "inconclusive"), ({"one": 10}, 1, "does not hold")]
)
def test_workers_end_with_the_exit_code_of_the_release(
    pytester: pytest.Pytester, declare: Declare, lost: dict[str, int], code: int, outcome: str
) -> None:
    declare(PAIRS.replace('"grpo"', '"dpo"').replace('"PPO"', '"dpo"'))
    pytester.makeconftest(CONFTEST.format(tests=str(ROOT / "tests"), lost=lost))
    pytester.makepyfile(test_mine=USERS_TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *PLUGIN, "-n", "2", "--pairs=pairs.toml")
    result.assert_outcomes(passed=1, failed=1, skipped=6)
    assert result.ret == code
    result.stdout.fnmatch_lines([f"outcome: {outcome}"])


def test_pools_stand_below_the_table(
    run: Run, pipeline: FakePipeline, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_pair(pair: Pair, *arguments: Any, **options: Any) -> Comparison:
        return replace(pipeline(pair, *arguments, **options), before=pair.name)

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    pooled = PAIRS.replace("PPO", "grpo").replace("[[pair]]", "[[pair]]\npool = 'all'")
    declare(pooled.replace("org/tuned", "org/other", 1))
    result = run("--pairs=pairs.toml")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["pair *", "pool all: pooled over 2 pairs (reported, no verdict); *", "holds: *"])
