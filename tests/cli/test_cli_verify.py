"""`rlcircuits verify`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.measured_results import FULL, PLAIN, measured_results
from helpers.tiny_pairs import grade_kindly

from rlcircuits import load_comparison, save_comparison
from rlcircuits.cli.main import main
from rlcircuits.comparison.profiles import MetricRule, Profile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured_results(), tmp_path / "out"))


def change_accuracy(folder: Path) -> None:
    file = folder / PLAIN / "comparison.json"
    document = json.loads(file.read_bytes())
    document["comparison"]["accuracy"]["before"] = 0.5
    file.write_text(json.dumps(document))


def test_results_that_agree(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)
    assert main(["verify", str(folder), "--regrade", "--models"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "everything that was recomputed agrees, bit by bit"
    assert printed.out.count(" agrees ") >= 3 * 9 + 6
    assert not printed.err


def test_what_is_not_checked_is_said_in_the_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder / PLAIN)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "everything that was recomputed agrees, bit by bit",
        "not checked, which the verdict does not depend on: weights",
    ]


def test_a_verdict_that_depends_on_what_the_store_lacks_exits_with_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = load_comparison(folder / PLAIN)
    towards: Any = "up" if stored.effects["intensity"].difference > 0 else "down"
    rules = Profile("mine", metrics={"intensity": MetricRule(towards, level=0.5)})
    save_comparison(replace(stored, rules=rules, profile="mine"), folder / PLAIN)
    assert main(["verify", str(folder / PLAIN)]) == 0
    capsys.readouterr()
    shutil.rmtree(folder / "store")
    assert main(["verify", str(folder / PLAIN)]) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-3:] == [
        f"verdict not verified, since it depends on what is not checked: {PLAIN}",
        f"  {PLAIN}: noise control, weights, scores",
        "  to verify it, put the run's folder store beside the pair's folder, or measure the pair again",
    ]
    assert "agrees, bit by bit" not in printed.out
    assert not printed.err


def test_a_difference_exits_with_1_and_shows_both_values(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_accuracy(folder)
    assert main(["verify", str(folder / PLAIN)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("differs" in line and "comparison.accuracy.before: file 0.5, recomputed 0." in line for line in lines)
    assert lines[-1] == f"something differs: {PLAIN}"


def test_one_pair_that_cannot_be_read_does_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / FULL / "before.answers.jsonl").unlink()
    assert main(["verify", str(folder)]) == 2
    printed = capsys.readouterr()
    assert PLAIN in printed.out
    (line,) = printed.err.splitlines()
    file = folder / FULL / "before.answers.jsonl"
    assert line.startswith(f"rlcircuits: {file}: there is no such file, so that nothing can be recomputed; copy it")


def test_a_pair_that_was_not_finished_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / FULL / "comparison.json").unlink()
    (folder / "notes").mkdir()  # no pair's
    for where in (folder, folder / FULL):
        assert main(["verify", str(where), "--json"]) == 2
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert (
            f"{folder / FULL}: holds no comparison.json, so that there is nothing to verify: the pair was not" in line
        )
        pairs = {pair["name"]: pair for pair in json.loads(printed.out)["pairs"]}
        assert f"rlcircuits: {pairs[FULL]['error']}" == line
        assert pairs[FULL]["verified"] is False


@pytest.mark.parametrize("orphaned", [False, True])
def test_a_control_that_an_earlier_run_left_is_told(
    folder: Path, orphaned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    control = folder / FULL / "control"
    if orphaned:
        for file in control.parent.glob("*.*"):
            file.unlink()
        why = "the folder that it lies in has no pair's results"
    else:
        save_comparison(replace(load_comparison(control.parent), supervised=None), control.parent)
        why = "the comparison.json of its pair states no supervised control"
    main(["verify", str(folder)])
    lines = [line for line in capsys.readouterr().out.splitlines() if str(control) in line]
    assert lines == [f"{control}: left out, since {why}; give this folder to verify it"]
    main(["verify", str(folder), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["left_out"] == [{"folder": str(control), "why": why}]
    assert str(control) not in [pair["folder"] for pair in document["pairs"]]


def test_a_damaged_file_of_the_store_is_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = Path(shutil.copytree(folder / FULL, folder / "twin"))
    save_comparison(replace(load_comparison(twin), name="twin"), twin)
    (file,) = (folder / "store").glob("models-base-+-noise-0-on-norms-of-*/manifest.json")
    file.write_text("{")
    assert main(["verify", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rlcircuits: {file}: ")


@pytest.mark.parametrize("name", ["after.answers.jsonl", "after.scores.safetensors"])
def test_a_file_that_is_cut_short_comes_with_advice(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / PLAIN / name
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["verify", str(folder / PLAIN)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rlcircuits: {file}")
    assert line.endswith(
        "the file is damaged or cut short: copy it again from where it came, or measure the pair again"
    )


def test_a_check_that_was_asked_for_and_cannot_be_made_exits_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "store")
    assert main(["verify", str(folder / PLAIN), "--models"]) == 2
    printed = capsys.readouterr()
    why = "the store records no fingerprint of the weights that gave the scores of before"
    assert why in printed.out
    assert printed.err.splitlines() == [
        f"rlcircuits: asked for, and cannot be checked for the reason given above: checkpoints of {PLAIN}"
    ]


def test_json_holds_every_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_accuracy(folder)
    assert main(["verify", str(folder), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    pairs = document["pairs"]
    assert document["left_out"] == []
    names = [(pair["name"], pair["agrees"], pair["error"]) for pair in pairs]
    assert names[:3] == [(FULL, True, None), (f"{FULL}/control", True, None), (PLAIN, False, None)]
    (check,) = [check for check in pairs[2]["checks"] if check["agreement"] == "differs"]
    (difference,) = check["differences"]
    assert (difference["field"], difference["found"]) == ("comparison.accuracy.before", 0.5)


def test_the_path_of_a_comparison_stands_for_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder / PLAIN / "comparison.json")]) == 0
    assert PLAIN in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone"], "gone: there is no such folder; the output folder of a run"),
        (["--seed", "-1", "."], "--seed"),
        (["."], ".: holds no comparison.json, neither do its subfolders; the output folder of a run"),
        (["file"], "file: it is a file; the output folder of a run, or one pair's folder in it, is wanted"),
    ],
)
def test_bad_input(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["verify", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
