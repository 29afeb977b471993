"""The pytest plugin in a repository of one's own: options, tests made, verdicts, the summary."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.pairs_file_text import PAIRS
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.pairs_file import Pair
from rlcircuits.release.run import Settings

USERS_TESTS = """
def test_effect(effect):
    assert effect.holds, effect.message
"""
FAULT = "internal error, a fault of rlcircuits and no verdict"
ONE_PAIR = ("--before", "org/base", "--after", "org/tuned", "--algorithm", "grpo")

Run = Callable[..., pytest.RunResult]
Declare = Callable[[str], object]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest in a fresh folder that holds USERS_TESTS."""
    pytester.makepyfile(test_mine=USERS_TESTS)
    # Where the package is installed, its entry point loads the plugin; in a plain checkout we do.
    installed = importlib.metadata.entry_points(group="pytest11", name="rlcircuits")
    plugin = () if installed else ("-p", "rlcircuits.pytest_plugin")
    return lambda *arguments: pytester.runpytest_inprocess("-p", "no:cacheprovider", *plugin, *arguments)


@pytest.fixture
def declare(pytester: pytest.Pytester) -> Declare:
    """Writes ``pairs.toml`` beside a folder ``base``."""
    pytester.mkdir("base")
    return pytester.path.joinpath("pairs.toml").write_text


class FakePipeline:
    """Stands where run_pair does: gives made-up comparisons and remembers what was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Pair, Settings, Any]] = []
        self.stores: list[Any] = []
        self.options: dict[str, Any] = {}
        self.error: Exception | None = None

    def __call__(
        self, pair: Pair, settings: Settings, *, output: Any, store: Any, notify: Any, progress: bool
    ) -> Comparison:
        self.calls.append((pair, settings, output))
        self.stores.append(store)
        assert store is None or os.path.isdir(store)
        notify(f"{pair.name}: a stage")
        if self.error is not None:
            raise self.error
        return made_up_comparison(pair.name, pair.algorithm, profile=pair.expectations.name, **self.options)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setattr("rlcircuits.release.run.run_pair", fake)
    return fake


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
            "pair *before → after*verdict",
            "base-to-tuned *accuracy*did not fall",
            "grpo, K = 40 *loss*(reported)",
            "*intensity*up as expected",
            "*kurtosis*down as expected",
            "*verdict*holds",
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
            "*noise of the update's norm, mean difference by draw: *",
            "*loss * raw intensity follows surprise, so read it beside the loss",
            "*AssertionError: base-to-tuned (grpo), accuracy: fell",
            "*= rlcircuits =*",
            "*verdict*does not hold",
        ]
    )
    assert sum("before → after" in line for line in result.outlines) == 1


def test_a_reported_effect_is_skipped_with_its_numbers(run: Run, pipeline: FakePipeline) -> None:
    result = run(*ONE_PAIR[:-1], "dpo", "-rs")
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(["*reported, not asserted for this algorithm*"])


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
    # A control's metrics are reported, its accuracy holds, and it is read as online RL.
    result.assert_outcomes(skipped=6, passed=2, failed=2)
    result.stdout.fnmatch_lines(["*AssertionError: one-arithmetic (sft) is read as online RL"])
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
def test_a_control_known_to_be_read_as_online_rl(
    run: Run, pipeline: FakePipeline, declare: Declare, rise: bool, outcomes: dict[str, int]
) -> None:
    declare(PAIRS + "profile = 'control'\n[pair.does_not_hold]\nnot-online-rl = 'all three moved'\n")
    pipeline.options = {"rise": rise}
    run("--pairs", "pairs.toml", "-k", "two and online").assert_outcomes(**outcomes)


def test_a_fall_in_accuracy_that_is_known(run: Run, pipeline: FakePipeline, declare: Declare) -> None:
    declare(PAIRS + "[pair.does_not_hold]\naccuracy = '0.9 to 0.7'\n")
    pipeline.options = {"right_after": [True] * 30 + [False] * 10}
    run("--pairs", "pairs.toml", "-k", "two and accuracy").assert_outcomes(xfailed=1)
    run("--pairs", "pairs.toml", "-k", "one and accuracy").assert_outcomes(failed=1)


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


def test_a_folder_is_found_from_where_pytest_was_called(
    run: Run, pipeline: FakePipeline, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("base")
    run("--before=./base", "--after=org/tuned", "--algorithm=grpo").assert_outcomes(passed=4)
    assert (pipeline.calls[0][0].before, pipeline.calls[0][0].name) == (str(pytester.path / "base"), "base-to-tuned")


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


def test_importing_the_plugin_imports_no_torch() -> None:
    code = (
        "import sys, rlcircuits.pytest_plugin; sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
