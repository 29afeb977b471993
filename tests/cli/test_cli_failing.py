"""The command line where something goes wrong on the way: a pair, the disk, the one who waits, the one who reads."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.synthetic_comparisons import answers_of, made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison import verdict as expectations
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.pair import Pair


def measures(monkeypatch: pytest.MonkeyPatch, failures: dict[str, BaseException], rise: bool = True) -> list[str]:
    """Let every pair have a made-up comparison, or an error; returns the growing list of the pairs asked for."""
    asked: list[str] = []

    def run_pair(pair: Pair, *_: Any, **__: Any) -> Comparison:
        asked.append(pair.name)
        if pair.name in failures:
            raise failures[pair.name]
        return made_up_comparison(pair.name, pair.algorithm, rise=rise)

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    return asked


def three_pairs(folder: Path) -> str:
    file = folder / "pairs.toml"
    pairs = "".join(
        f'[[pair]]\nname = "{name}"\nbefore = "org/base"\nafter = "org/{name}"\nalgorithm = "grpo"\n'
        for name in ("first", "bad", "last")
    )
    file.write_text(pairs)
    return str(file)


@pytest.mark.parametrize("json_too", [False, True])
def test_a_pair_that_fails_takes_nothing_from_the_others(
    json_too: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = measures(monkeypatch, {"bad": RLCircuitsError("org/bad has no tokenizer")})
    assert main(["compare", "--pairs", three_pairs(tmp_path), *(["--json"] if json_too else [])]) == 2
    assert asked == ["first", "bad", "last"]
    shown = capsys.readouterr()
    assert shown.err == "rlcircuits: pair 'bad': org/bad has no tokenizer\n"
    if json_too:
        assert [one["comparison"]["name"] for one in json.loads(shown.out)] == ["first", "last"]
    heading = '"name": "{}"' if json_too else "\n{}\n"
    assert [heading.format(name) in shown.out for name in asked] == [True, False, True]


@pytest.mark.parametrize("kept", [False, True])
def test_an_interruption_is_one_line(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = measures(monkeypatch, {"bad": KeyboardInterrupt()})
    output = tmp_path / "out"
    assert main(["compare", "--pairs", three_pairs(tmp_path), *(["--output", str(output)] if kept else [])]) == 130
    assert asked == ["first", "bad"]
    more = f"; the same command resumes from {output}" if kept else ""
    assert capsys.readouterr().err == f"rlcircuits: interrupted{more}\n"


def test_sigterm_is_an_interruption_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_pair(*_: Any, **__: Any) -> Comparison:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it goes on")

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    earlier, output = signal.getsignal(signal.SIGTERM), tmp_path / "out"
    assert main(["compare", "--pairs", three_pairs(tmp_path), "--output", str(output)]) == 130
    assert capsys.readouterr().err == f"rlcircuits: interrupted; the same command resumes from {output}\n"
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_a_reader_who_goes_early_ends_the_command_silently(tmp_path: Path) -> None:
    # The command that prints with the fewest imports.
    command = [sys.executable, "-m", "rlcircuits.cli.main", "init"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["compare", "--before", "a", "--after", "b", "--algorithm", "grpo", "--output", "file"], "--output"),
        (["answer", "./nowhere", "--out", "file/x.jsonl"], "--out"),
        (["answer", "./nowhere", "--out", "x.jsonl", "--store", "file/store"], "--store"),
        (["attribute", "./nowhere", "--answers", "answers.jsonl", "--out", "file/x.safetensors"], "--out"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_work(
    arguments: list[str],
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = measures(monkeypatch, {})
    monkeypatch.chdir(tmp_path)
    answers_of([True] * 3).save("answers.jsonl")
    Path("file").write_text("")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rlcircuits: {option}: no file can be written in the folder file")
    assert main(["answer", "./nowhere", "--out", "."]) == 2
    assert capsys.readouterr().err == "rlcircuits: --out: . is a folder; a file's name is wanted\n"
    assert asked == []


def test_an_error_of_the_file_system_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measures(monkeypatch, {"bad": OSError(28, "No space left on device")})
    assert main(["compare", "--pairs", three_pairs(tmp_path)]) == 2
    assert capsys.readouterr().err == "rlcircuits: pair 'bad': No space left on device\n"


def report_of(line: str) -> Path:
    """The file that a fault's line names."""
    (found,) = re.findall(r"; the traceback is in (\S+), please report it with that file$", line)
    return Path(found)


@pytest.mark.parametrize("kept", [False, True])
def test_a_fault_of_ours_is_no_verdict_and_takes_nothing_from_the_others(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = measures(monkeypatch, {"bad": KeyError("a\nkey")})
    output = tmp_path / "out"
    assert main(["compare", "--pairs", three_pairs(tmp_path), *(["--output", str(output)] if kept else [])]) == 70
    assert asked == ["first", "bad", "last"]
    shown = capsys.readouterr()
    assert [f"\n{name}\n" in shown.out for name in asked] == [True, False, True]
    (line,) = shown.err.splitlines()
    fault = "internal error, a fault of rlcircuits and no verdict: KeyError: 'a\\nkey'"
    assert line.startswith(f"rlcircuits: pair 'bad': {fault}; the traceback is in ")
    report = report_of(line)
    assert (report.parent == output) is kept
    written = report.read_text(encoding="utf-8")
    report.unlink()
    assert written.startswith("command: ")
    assert f"torch {torch.__version__.split('+')[0]}" in written
    assert written.endswith("KeyError: 'a\\nkey'\n")


@pytest.mark.parametrize(
    ("failures", "rise", "code"),
    [
        ({}, True, 0),
        ({}, False, 1),
        ({"bad": RLCircuitsError("bad")}, False, 2),
        ({"bad": OSError("bad")}, True, 2),
        ({"bad": MemoryError()}, True, 2),
        ({"bad": torch.OutOfMemoryError("CUDA out of memory")}, True, 2),
        ({"first": RLCircuitsError("bad"), "last": RuntimeError("oops")}, False, 70),
        ({"first": RecursionError("oops"), "last": RLCircuitsError("bad")}, True, 70),
        ({"first": AssertionError()}, True, 70),
        ({"first": RuntimeError("oops"), "bad": KeyboardInterrupt()}, True, 130),
    ],
)
def test_the_exit_code_says_the_worst_that_happened(
    failures: dict[str, BaseException], rise: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures(monkeypatch, failures, rise=rise)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["compare", "--pairs", three_pairs(tmp_path)]) == code


def test_a_fault_in_judging_one_pair_takes_nothing_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measures(monkeypatch, {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    real = expectations.judge

    def judge(comparison: Comparison) -> expectations.Verdict:
        if comparison.name == "bad":
            raise ZeroDivisionError
        return real(comparison)

    monkeypatch.setattr(expectations, "judge", judge)
    assert main(["compare", "--pairs", three_pairs(tmp_path)]) == 70
    shown = capsys.readouterr()
    assert [f"\n{name}\n" in shown.out for name in ("first", "bad", "last")] == [True, False, True]
    assert "pair 'bad': internal error" in shown.err


def test_a_fault_in_any_command_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise IndexError("x" * 1000)

    monkeypatch.setattr("rlcircuits.comparison.storage.find_comparisons", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["report", "out"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "IndexError: xxx" in line
    assert len(line) < 700
    assert "x" * 1000 in report_of(line).read_text(encoding="utf-8")


def test_a_fault_is_told_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measures(monkeypatch, {"bad": KeyError("oops")})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert main(["compare", "--pairs", three_pairs(tmp_path)]) == 70
    *_, above, line = capsys.readouterr().err.splitlines()
    assert above == "KeyError: 'oops'"
    assert line.endswith("KeyError: 'oops'; please report it with the traceback above")
