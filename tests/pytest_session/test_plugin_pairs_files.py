"""The pytest plugin with a pairs file: one test a pair, question set and measure, known failures."""

from __future__ import annotations

import os

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.plugin_runs import Declare, FakePipeline, Run


@pytest.mark.parametrize("how", ["option", "ini"])
def test_many_pairs_from_a_file(run: Run, pipeline: FakePipeline, pytester: pytest.Pytester, how: str) -> None:
    pytester.mkdir("zoo").joinpath("pairs.toml").write_text(PAIRS)
    pytester.path.joinpath("zoo", "base").mkdir()
    pytester.makeini(f"[pytest]\n{'rlcircuits_pairs = zoo/pairs.toml' if how == 'ini' else ''}")
    result = run(*([] if how == "ini" else ["--pairs", "zoo/pairs.toml"]))
    result.assert_outcomes(passed=8)
    # One store for the session, so that a base answers once, and gone with it.
    assert len(set(pipeline.stores)) == 1
    assert not os.path.exists(pipeline.stores[0])
    assert [call[0].name for call in pipeline.calls] == ["one", "two"]
    assert pipeline.calls[0][0].before == str(pytester.path / "zoo" / "base")
    assert pipeline.calls[1][0].after == "org/tuned"
    result.stdout.fnmatch_lines(["rlcircuits: zoo/pairs.toml"])


def test_what_is_typed_goes_before_what_the_file_says(run: Run, pipeline: FakePipeline, declare: Declare) -> None:
    declare("[settings]\nk = 60\nalpha = 0.5\n[settings.sampling]\ntemperature = 0\nseed = 3\n" + PAIRS)
    run("--pairs", "pairs.toml", "--rlcircuits-alpha", "0.1", "--rlcircuits-sampling-seed", "5", "-k", "one")
    settings = pipeline.calls[0][1]
    assert (settings.k, settings.alpha) == (60, 0.1)
    assert (settings.sampling.temperature, settings.sampling.seed, settings.sampling.max_new_tokens) == (0, 5, None)


def test_one_row_a_pair_question_set_and_measure(run: Run, pipeline: FakePipeline, declare: Declare) -> None:
    declare(PAIRS.replace('"grpo"', '"sft"\nquestions = ["arithmetic", "equations"]'))
    result = run("--pairs", "pairs.toml", "-v", "-k", "one")
    ids = [line.split("[")[1].split("]")[0] for line in result.outlines if line.endswith("%]")]
    assert ids == [
        f"one-{questions}-{measure}"
        for questions in ("arithmetic", "equations")
        for measure in ("intensity", "complexity", "kurtosis", "accuracy", "not-online-rl")
    ]
    # Metrics are reported, accuracy holds, and the pair shows online RL's pattern.
    result.assert_outcomes(skipped=6, passed=2, failed=2)
    result.stdout.fnmatch_lines(["*AssertionError: one-arithmetic (sft), not-online-rl: shows online RL's pattern"])
    assert [call[0].questions.name for call in pipeline.calls] == ["arithmetic", "equations"]


@pytest.mark.parametrize(("rise", "outcomes"), [(False, {"xfailed": 2}), (True, {"failed": 2})])
def test_a_direction_known_not_to_hold_is_a_strict_expected_failure(
    run: Run, pipeline: FakePipeline, declare: Declare, rise: bool, outcomes: dict[str, int]
) -> None:
    declare(PAIRS + "[pair.does_not_hold]\ncomplexity = '3.1 to 3.0'\nkurtosis = '6 to 7'\n")
    pipeline.options = {"rise": rise}
    result = run("--pairs", "pairs.toml", "-rx", "-k", "two and (complexity or kurtosis)")
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*3.1 to 3.0*"])


@pytest.mark.parametrize(("rise", "outcomes"), [(True, {"xfailed": 1}), (False, {"failed": 1})])
def test_training_without_rl_known_to_show_the_pattern(
    run: Run, pipeline: FakePipeline, declare: Declare, rise: bool, outcomes: dict[str, int]
) -> None:
    declare(PAIRS + "profile = 'not-rl'\n[pair.does_not_hold]\nnot-online-rl = 'all three moved'\n")
    pipeline.options = {"rise": rise}
    run("--pairs", "pairs.toml", "-k", "two and online").assert_outcomes(**outcomes)


def test_a_fall_in_accuracy_that_is_known(run: Run, pipeline: FakePipeline, declare: Declare) -> None:
    declare(PAIRS + "[pair.does_not_hold]\naccuracy = '0.9 to 0.7'\n")
    pipeline.options = {"right_after": [True] * 30 + [False] * 10}
    run("--pairs", "pairs.toml", "-k", "two and accuracy").assert_outcomes(xfailed=1)
    run("--pairs", "pairs.toml", "-k", "one and accuracy").assert_outcomes(failed=1)


def test_a_wrong_pairs_file_is_one_sentence(run: Run, declare: Declare) -> None:
    declare(PAIRS + "colour = 1")
    result = run("--pairs", "pairs.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pairs.toml: pair 2, key 'colour': unknown; known keys are name, before, *"])


def test_a_wrong_file_in_the_ini_option_fails_only_tests_that_need_it(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nrlcircuits_pairs = gone.toml")
    pytester.makepyfile(test_other="def test_other(): pass")
    run("test_other.py").assert_outcomes(passed=1)
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*gone.toml: there is no such file*"])
