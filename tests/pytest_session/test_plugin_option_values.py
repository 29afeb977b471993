"""Values of the pytest plugin's options: empty ones, ones with spaces, and those that become settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.paths import SEED_7
from helpers.plugin_runs import FakePipeline, Run
from helpers.tiny_checkpoints import save_checkpoint

from rlcircuits.answers.types import Sampling
from rlcircuits.pytest_session.options import LONG_OPTIONS, SHORT_OPTIONS
from rlcircuits.release.settings import Settings

SHIPPED = str(SEED_7 / "sft")

SHORT_NAMES = [option.flag for option in SHORT_OPTIONS]
TEXTS = [f"--{name}" for name in SHORT_NAMES]
TEXTS += [
    f"--rlcircuits-{option.flag}"
    for option in (*SHORT_OPTIONS, *LONG_OPTIONS)
    if option.value_type is str and not option.choices
]


@pytest.mark.parametrize("name", TEXTS)
def test_an_empty_value_is_refused(name: str, run: Run, pipeline: FakePipeline) -> None:
    for value in ("", " "):
        result = run(f"{name}={value}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        # A short name that nobody else has is said in short.
        short = name.removeprefix("--rlcircuits-")
        shown = f"--{short}" if short in SHORT_NAMES else name
        result.stderr.fnmatch_lines([f"ERROR: {shown} is empty; give it a value, or leave it out"])
    assert pipeline.calls == []


def test_a_value_may_have_spaces(run: Run, pipeline: FakePipeline, pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("my models")
    for name in ("a", "b"):
        (folder / name).mkdir()
    run("--before=my models/a", "--after=my models/b", "--algorithm=grpo").assert_outcomes(passed=4)
    ((pair, *_),) = pipeline.calls
    assert (pair.before, pair.after) == (str(folder / "a"), str(folder / "b"))


def test_length_and_early_stop_are_settings(run: Run, pipeline: FakePipeline) -> None:
    pair = ("--before=org/base", "--after=org/tuned", "--algorithm=grpo", "--questions=gsm8k")
    run(*pair).assert_outcomes(passed=4)
    more = ("--rlcircuits-max-unfinished=0.9", "--rlcircuits-no-stop-early", "--rlcircuits-max-new-tokens=99")
    result = run(*pair, *more)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["rlcircuits: *max_unfinished = 0.9, *stop_early = False*"])
    (first, default, _), (_, settings, _) = pipeline.calls
    assert (first.questions.name, default) == ("gsm8k", Settings())
    assert settings == Settings(max_unfinished=0.9, stop_early=False, sampling=Sampling(max_new_tokens=99, n=8))


def test_who_names_no_question_set_is_told_of_the_toy(run: Run, pipeline: FakePipeline, tmp_path: Path) -> None:
    real = str(save_checkpoint(tmp_path / "real"))
    for after, more, told in (
        (real, (), True),
        (real, ("--questions=arithmetic",), False),
        (SHIPPED, (), False),
    ):
        result = run(f"--before={SHIPPED}", f"--after={after}", "--algorithm=grpo", *more)
        result.assert_outcomes(passed=4)
        notes = [line for line in result.outlines if line.startswith("note: no question set was named, so")]
        assert len(notes) == told
