"""`rlcircuits verify`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.stored_pairs import STORED

from rlcircuits.cli.main import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / STORED, tmp_path / "out"))


def change_accuracy(folder: Path) -> None:
    file = folder / "grpo/comparison.json"
    document = json.loads(file.read_bytes())
    document["comparison"]["accuracy"]["before"] = 0.5
    file.write_text(json.dumps(document))


def test_results_that_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder), "--regrade"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "everything that was recomputed agrees, bit by bit"
    assert printed.out.count(" agrees ") >= 2 * 7
    assert not printed.err


def test_a_difference_exits_with_1_and_shows_both_values(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_accuracy(folder)
    assert main(["verify", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [
        line for line in lines if "differs" in line and "comparison.accuracy.before: file 0.5, recomputed 0.8" in line
    ]
    assert lines[-1] == "something differs: grpo"


def test_one_pair_that_cannot_be_read_does_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "grpo/before.answers.jsonl").unlink()
    assert main(["verify", str(folder)]) == 2
    printed = capsys.readouterr()
    assert "sft-clean" in printed.out
    assert printed.err.count("\n") == 1
    assert "before.answers.jsonl" in printed.err


def test_a_check_that_was_asked_for_and_cannot_be_made_exits_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shutil.rmtree(folder / "store")
    assert main(["verify", str(folder / "grpo"), "--models"]) == 2
    assert "pair 'grpo': checkpoints not checked: the store records no fingerprint" in capsys.readouterr().err
    assert main(["verify", str(folder / "grpo")]) == 0


def test_json_holds_every_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_accuracy(folder)
    assert main(["verify", str(folder), "--json"]) == 1
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert [(pair["name"], pair["agrees"]) for pair in pairs] == [("grpo", False), ("sft-clean", True)]
    (check,) = [check for check in pairs[0]["checks"] if check["agreement"] == "differs"]
    assert check["differences"] == [{"field": "comparison.accuracy.before", "found": 0.5, "recomputed": 0.8}]


@pytest.mark.parametrize("arguments", [["gone"], ["--seed", "-1", "."], ["."]])
def test_bad_input(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
