"""Arguments of the command line: bad ones are one line, and help texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlcircuits.cli.main import _parser, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--before", "a", "--after", "b", "--algorithm", "magic"], "algorithm is 'magic'"),
        (["compare", "--before", "a", "--after", "b", "--algorithm", "grpo", "--k", "5"], "k is 5"),
        (["answer", "./nowhere", "--out", "x.jsonl"], "nowhere"),
        (["answer", "./nowhere", "--questions", "riddles", "--out", "x.jsonl"], "question set 'riddles' is not known"),
        (["compare", "--before", "./a", "--after", "b", "--algorithm", "grpo"], "--before: there is no folder a, and"),
        (["init", "--algorithm", "zzz"], "algorithm is 'zzz'; it must be one of grpo, "),
        (["compare", "--before", "a", "--algorithm", "grpo"], "compare needs --before and --after, or --pairs"),
        (["compare", "--pairs", "x.toml", "--name", "y"], "--pairs and --name were both given"),
        (["compare", "--pairs", "gone.toml"], "gone.toml: there is no such file"),
        (
            ["answer", "./nowhere", "--few-shot", "gone.txt", "--out", "x.jsonl"],
            "--few-shot: gone.txt: cannot be read as worked examples",
        ),
        (["answer", "./nowhere", "--template", "x", "--out", "x.jsonl"], "must hold {question} once"),
        (["plan", "gone.toml"], "gone.toml: there is no such file"),
        (["attribute", "m", "--answers", "gone.jsonl", "--out", "x"], "gone.jsonl: cannot be read as answers"),
        (["report", "gone"], "gone: holds no comparison.json"),
        (["fixtures", "verify"], "no fixtures/recipe in "),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rlcircuits: ")
    assert message in line


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[tuple[str, ...], argparse.Action]]:
    """Every option or argument that takes text, with the command it is of."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from (((name, *names), each) for names, each in options_of(command))
        elif action.nargs != 0 and action.type is None and not action.choices:
            yield (), action


TEXTS = [(names, action) for names, action in options_of(_parser()) if names]


@pytest.mark.parametrize(("command", "action"), TEXTS, ids=[f"{' '.join(names)} {a.dest}" for names, a in TEXTS])
def test_an_empty_value_is_refused(
    command: tuple[str, ...], action: argparse.Action, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("", " "):
        given: list[str] = []
        for other, each in TEXTS:
            if other == command and (each is action or each.required):
                text = value if each is action else "x"
                more = ["x"] * (each.nargs - 1) if isinstance(each.nargs, int) else []
                if more:
                    given += [each.option_strings[0], text, *more]
                else:
                    given += [f"{each.option_strings[0]}={text}"] if each.option_strings else [text]
        if command == ("fixtures", "train"):
            given += ["--seed=7", *(["--algorithm=grpo"] if action.dest != "algorithm" else [])]
        if command == ("fixtures", "damage"):
            given += ["--kind=zero"]
        assert main([*command, *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        shown = action.option_strings[0] if action.option_strings else action.dest.upper()
        assert line == f"rlcircuits: {shown} is empty; give it a value, or leave it out"
    assert list(tmp_path.iterdir()) == []


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, shown in (
        (["--help"], "compare"),
        (["compare", "--help"], "--algorithm"),
        (["init", "--help"], "intensity within 10 %"),
        (["--version"], "rlcircuits"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert shown in " ".join(capsys.readouterr().out.split())  # however the lines are wrapped
