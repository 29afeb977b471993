"""The environment: closed or full streams, full disks, no permissions, no home, missing packages, odd paths."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_processes import run_in_fork, run_in_new_process
from fault_check import FINISHED, PAIR, Outcome, check_refused, run
from valid_inputs import AFTER, BEFORE, QUESTIONS, answers, comparison

KIND = "environment"
Count = Callable[[str], None]

SCORE = ["attribute", BEFORE, "--answers", "answers.jsonl", "--out", "out.safetensors"]
ANSWER = ["answer", BEFORE, "--count", "3", "--max-new-tokens", "20", "--out", "out.jsonl"]
COMPARE = [
    "compare", "--before", BEFORE, "--after", AFTER, "--algorithm", "grpo", "--name", PAIR, "--question-count", "6",
    "--k", "2", "--min-questions", "1", "--noise-draws", "0", "--output", "kept",
]  # fmt: skip
SHOW = ["report", "compared"]
DAMAGE = ["fixtures", "damage", BEFORE, "--kind", "zero", "--target", "mlp.0", "--out", "damaged"]


@pytest.fixture(autouse=True)
def inputs() -> None:
    os.chmod(".", 0o755)
    Path("answers.jsonl").write_bytes(answers())
    Path("compared").mkdir()
    Path("compared/comparison.json").write_bytes(comparison())
    Path("ours.jsonl").write_text(QUESTIONS)


def refused(outcome: Outcome, *says: str) -> None:
    check_refused(outcome, says)


# Streams.


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-", "<&-"])
def test_closed_streams(closed: str, count: Count) -> None:
    """Output goes nowhere, and above all not into the file that is opened next."""
    outcome = run_in_new_process(f"$R init release.toml {closed}")
    assert outcome == Outcome(0, outcome.out, "")
    assert "rlcircuits plan" not in Path("release.toml").read_text().splitlines()[-1]
    assert Path("release.toml").read_text().startswith("# Which checkpoints")
    outcome = run_in_new_process(f"$R init release.toml {closed}")
    assert outcome.code == 2
    count("ran")


def test_closed_streams_of_a_long_command(count: Count) -> None:
    unwritable = dict.fromkeys(("HOME", "TMPDIR", "HF_HOME"), "/proc/nowhere")
    assert run_in_new_process("$R report compared >&- 2>&-", unwritable) == Outcome(0, "", "")
    count("ran")


@pytest.mark.parametrize("command", ["--help", "--version", "init release.toml", "compare --help"])
def test_a_full_disk_behind_stdout(command: str, count: Count) -> None:
    refused(
        run_in_new_process(f"$R {command} >/dev/full"), "standard output cannot be written: No space left on device"
    )
    count("refused")


def test_a_full_disk_behind_stdout_costs_no_work(count: Count) -> None:
    refused(run_in_fork(COMPARE, out="/dev/full"), "standard output cannot be written")
    assert Path("kept", PAIR, "comparison.json").is_file()
    assert "nothing has changed since" in run_in_fork(COMPARE).err
    refused(run_in_fork(SHOW, out="/dev/full"), "standard output cannot be written")
    count("refused")


@pytest.mark.parametrize("command", [COMPARE, SCORE, [*SHOW, "--no-such"], ["plan", "gone.toml"]])
def test_a_full_disk_behind_stderr_costs_no_work(command: list[str], count: Count) -> None:
    assert run_in_fork(command, err="/dev/full").code == run(command).code
    count("ran")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_streams_that_lack_letters(encoding: str, count: Count) -> None:
    outcome = run_in_new_process(
        "$R init 'модель.toml'", {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    )
    assert outcome.code == 0
    count("ran")


# Surroundings.


def test_no_home_and_no_language(count: Count) -> None:
    environment = {"HOME": None, "XDG_CACHE_HOME": None, "LANG": "C", "LC_ALL": "C", "TERM": "dumb"}
    outcome = run_in_new_process(f"$R {' '.join(ANSWER)}", environment)
    assert outcome.code == 0, outcome.err
    count("ran")


def _remove_here() -> None:
    shutil.rmtree(Path.cwd())


@pytest.mark.parametrize("command", [ANSWER, COMPARE, SHOW, ["plan", "gone.toml"], ["init"], ["fixtures", "verify"]])
def test_a_working_folder_that_is_gone(command: list[str], count: Count) -> None:
    refused(run_in_fork(command, _remove_here))
    count("refused")


def _limited(what: int, limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (limit, limit))


@pytest.mark.parametrize(
    ("command", "size"),
    [
        ([*ANSWER, "--store", "store"], 0),
        ([*ANSWER, "--store", "store"], 900),
        ([*SCORE, "--store", "store"], 0),
        ([*SCORE, "--store", "store"], 5_000),
        (COMPARE, 0),
        (COMPARE, 5_000),
        ([*SHOW, "--html", "page.html"], 0),
        ([*SHOW, "--plot", "plot.svg"], 5_000),
        (["init", "release.toml"], 0),
        (["init", "release.toml"], 900),
        (DAMAGE, 0),
        (DAMAGE, 5_000),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else str(part),
)
def test_a_full_disk(command: list[str], size: int, count: Count) -> None:
    """With a limit on file sizes the command fails; run again without the limit, it finishes as usual."""
    outcome = run_in_fork(command, _limited(resource.RLIMIT_FSIZE, size), out="/dev/null")
    if outcome.code in FINISHED:
        count("ran")  # all of its files are small
        return
    refused(outcome, "File too large")
    assert run_in_fork(command).code in FINISHED
    there = {name: Path(name).read_bytes() for name in ("out.jsonl", "out.safetensors") if Path(name).is_file()}
    for name in there:
        Path(name).unlink()
    shutil.rmtree("store", ignore_errors=True)
    if there:
        assert run_in_fork(command).code == 0
        assert {name: Path(name).read_bytes() for name in there} == there
    count("refused")


def _as_nobody() -> None:
    """Drop root's right to read and write every file."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


SECRETS = {
    "answers.jsonl": SCORE,
    "compared/comparison.json": SHOW,
    "compared": SHOW,
    "ours.jsonl": ["answer", BEFORE, "--questions", "ours.jsonl", "--out", "/tmp/out.jsonl"],
    "release.toml": ["plan", "release.toml"],
    "shots.txt": [*ANSWER, "--few-shot", "shots.txt"],
    "model/config.json": ["attribute", "model", *SCORE[2:]],
    "model/generation_config.json": ["attribute", "model", *SCORE[2:]],
    "model/model.safetensors": ["attribute", "model", *SCORE[2:]],
    "model/tokenizer.json": ["answer", "model", *ANSWER[2:]],
    "model/tokenizer_config.json": ["answer", "model", *ANSWER[2:]],
    "model": ["answer", "model", *ANSWER[2:]],
    "above": ["answer", "above/model", *ANSWER[2:]],
    "model/damage.json": ["fixtures", "damage", "model", *DAMAGE[3:]],
}


@pytest.mark.parametrize("name", SECRETS)
def test_files_that_may_not_be_read(name: str, count: Count) -> None:
    importlib.import_module("math_verify")  # nobody may not read where the packages are, either
    Path("release.toml").write_text("")
    Path("shots.txt").write_text("1+1=2")
    os.chmod(".", 0o777)
    shutil.copytree(BEFORE, "model")
    shutil.copytree("model", "above/model")
    Path("model/damage.json").write_text("{}")
    os.chmod(name, 0)
    try:
        refused(run_in_fork(SECRETS[name], _as_nobody), name, "Permission denied")
    finally:
        os.chmod(name, 0o755)
    count("refused")


@pytest.mark.parametrize(
    "command", [ANSWER, SCORE, COMPARE, [*SHOW, "--plot", "x.png"], ["init", "release.toml"], DAMAGE]
)
def test_a_folder_that_may_not_be_written(command: list[str], count: Count) -> None:
    refused(run_in_fork(command, _as_nobody))
    count("refused")


# Packages that are not installed.

MISSING: dict[str, tuple[list[str], str]] = {
    "matplotlib --plot": ([*SHOW, "--plot", "plot.png"], "matplotlib"),
    "datasets": ([*ANSWER, "--questions", "gsm8k"], "datasets"),
    "vllm": ([*ANSWER, "--engine", "vllm"], "vllm"),
    "peft": (["attribute", "adapter", *SCORE[2:]], "peft"),
}


@pytest.mark.parametrize("name", MISSING)
def test_packages_that_are_missing(name: str, count: Count, monkeypatch: pytest.MonkeyPatch) -> None:
    import test_faults_adapters

    package = name.split()[0]
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    Path("answers.jsonl").unlink()
    test_faults_adapters.make()
    command, says = MISSING[name]
    refused(run(command), says, "pip install")
    count("refused")


# Paths.


@pytest.mark.parametrize("name", ["with space", "модель", "a\nb", "a" * 200, "\udcff", "%s{}$'\""])
def test_odd_names(name: str, count: Count) -> None:
    """The command runs or refuses them, since outputs are named after them."""
    shutil.copytree(BEFORE, name)
    named = COMPARE.index("--name")
    command = ["compare", "--before", f"./{name}", *COMPARE[3:named], *COMPARE[named + 2 : -1], f"./{name}/kept"]
    outcome = run(command)
    if outcome.code not in FINISHED:
        *_, outcome_line = outcome.err.splitlines()
        refused(Outcome(outcome.code, outcome.out, outcome_line))
    count("ran" if outcome.code in FINISHED else "refused")
