"""The commands of docs/questions.md for one checkpoint print what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helpers.paths import ROOT

import rlcircuits
from rlcircuits.cli.main import main

NUMBER = re.compile(r"\d+(?:\.\d+)?")
PAGE = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")


def test_the_example_of_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.split("## One checkpoint: its answers and its scores\n")[1].split("\n## ")[0]
    commands, printed = re.findall(r"^```\n(.*?)^```$", section, flags=re.M | re.S)
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    for command in commands.splitlines():
        assert main([*shlex.split(command)[1:], "--device", "cpu"]) == 0
    found = capsys.readouterr().out
    assert NUMBER.sub("#", found) == NUMBER.sub("#", printed)
    # The last digit may be rounded otherwise on another machine.
    assert numbers(found) == pytest.approx(numbers(printed), rel=2e-3)
    scores = rlcircuits.EdgeScores.load("scores.safetensors")
    assert scores.values.shape == (39, len(scores.graph.writers), len(scores.graph.readers))


def numbers(text: str) -> list[float]:
    return [float(each) for each in NUMBER.findall(text)]
