"""The pytest plugin with one pair by options: tests made, options passed on, numbers shown."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.plugin_runs import ONE_PAIR, FakePipeline, Run

from rlcircuits.release.settings import Settings


def test_one_pair_by_options(run: Run, pipeline: FakePipeline) -> None:
    result = run("-v", *ONE_PAIR)
    result.assert_outcomes(passed=4)
    assert len(pipeline.calls) == 1
    pair, settings, output = pipeline.calls[0]
    assert (pair.before, pair.after, pair.algorithm, pair.questions.name) == (
        "org/base",
        "org/tuned",
        "grpo",
        "arithmetic",
    )
    assert settings == Settings()
    assert output is None
    result.stdout.fnmatch_lines(
        [
            "rlcircuits: org/base → org/tuned (grpo)",
            "base-to-tuned: a stage",
            "*test_effect[[]base-to-tuned-intensity[]] PASSED*",
            "*test_effect[[]base-to-tuned-accuracy[]] PASSED*",
            "*= rlcircuits =*",
            "outcome: holds",
            "why:     shows the study's pattern (intensity +98 %, *), accuracy 0.667 → 1.000",
            "next:    *",
            "pair *before → after*verdict",
            "base-to-tuned *accuracy*rose",
            "grpo, K = 40 *loss*(reported)",
            "*intensity*up as expected",
            "*kurtosis*down as expected",
            "*verdict*holds: shows the study's pattern",
            "holds: shows the study's pattern *",
        ]
    )


def test_the_whole_comparison_is_a_fixture_too(run: Run, pipeline: FakePipeline, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_mine="""
        def test_whole(pair_comparison):
            assert pair_comparison.k == 40

        def test_both(pair_comparison, effect):
            assert effect.measure == "accuracy" or pair_comparison.effects[effect.measure].questions == 40
        """
    )
    result = run("-v", *ONE_PAIR)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*::test_whole[[]base-to-tuned[]] PASSED*"])
    assert len(pipeline.calls) == 1


def test_options_reach_the_pipeline(run: Run, pipeline: FakePipeline, pytester: pytest.Pytester) -> None:
    result = run(
        *ONE_PAIR,
        "--rlcircuits-k",
        "50",
        "--rlcircuits-alpha",
        "0.1",
        "--rlcircuits-question-count",
        "99",
        "--rlcircuits-device",
        "cpu",
        "--rlcircuits-dtype",
        "bfloat16",
        "--rlcircuits-sampling-seed",
        "7",
        "--rlcircuits-temperature",
        "0",
        "--rlcircuits-granularity",
        "head",
        "--rlcircuits-max-new-tokens",
        "12",
        "--rlcircuits-noise-draws",
        "1",
        "--rlcircuits-score-on",
        "gold",
        "--rlcircuits-min-questions",
        "30",
        "--rlcircuits-batch-size",
        "8",
        "--rlcircuits-output",
        "kept",
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["rlcircuits: org/base → org/tuned (grpo), k = 50, alpha = 0.1, *, temperature = 0.0, *"]
    )
    _, settings, output = pipeline.calls[0]
    assert (settings.k, settings.alpha, settings.question_count) == (50, 0.1, 99)
    assert (settings.device, settings.dtype, settings.granularity) == ("cpu", "bfloat16", "head")
    sampling = settings.sampling
    assert (sampling.seed, sampling.temperature, sampling.max_new_tokens) == (7, 0, 12)
    assert (settings.noise_draws, settings.score_on, settings.min_questions, settings.batch_size) == (1, "gold", 30, 8)
    assert output == pytester.path / "kept"
    assert pipeline.stores == [None]  # the pipeline's own choice, within the output


def test_a_folder_is_found_from_where_pytest_was_called(
    run: Run, pipeline: FakePipeline, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("base")
    run("--before=./base", "--after=org/tuned", "--algorithm=grpo").assert_outcomes(passed=4)
    assert (pipeline.calls[0][0].before, pipeline.calls[0][0].name) == (str(pytester.path / "base"), "base-to-tuned")


def test_a_failed_effect_shows_the_numbers(run: Run, pipeline: FakePipeline) -> None:
    pipeline.options = {"rise": False, "right_after": [True] * 30 + [False] * 10}
    result = run(*ONE_PAIR)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: base-to-tuned (grpo), intensity: down, expected up",
            "*mean over K = 40 questions; it rose on *",
            "*p = * (one-sided Wilcoxon signed-rank test for up, level 0.01)",
            "*95 % interval of the mean difference: *",
            "*noise that matches the update, mean difference by draw: *",
            "*loss * raw intensity follows surprise, so read it beside the loss",
            "*AssertionError: base-to-tuned (grpo), accuracy: fell",
            "*= rlcircuits =*",
            "*verdict*does not hold: intensity, complexity, kurtosis, accuracy",
        ]
    )
    assert sum("before → after" in line for line in result.outlines) == 1


def test_a_reported_effect_is_skipped_with_its_numbers(run: Run, pipeline: FakePipeline) -> None:
    result = run(*ONE_PAIR[:-1], "dpo", "-rs")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["*reported, not asserted for this algorithm*"])


def test_importing_the_plugin_imports_no_torch() -> None:
    code = (
        "import sys, rlcircuits.pytest_plugin; sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
