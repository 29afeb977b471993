"""A read-only output folder: finished pairs are judged again, and pairs that must be measured are refused at once."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from helpers.read_only_mount import read_only
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.cli.main import main

PLUGIN = () if metadata.entry_points(group="pytest11", name="rlcircuits") else ("-p", "rlcircuits.pytest_plugin")

PAIR = '[[pair]]\nname = "{name}"\nbefore = "base"\nafter = "tuned"\nalgorithm = "dpo"\nquestions = "arithmetic"\n'
SETTINGS = "[settings]\nk = 20\nquestion_count = 30\nbalance = 2\nnoise_draws = 0\nmax_unfinished = 1\n"


@pytest.fixture(autouse=True, scope="module")
def all_right() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: True)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of checkpoints, pairs files and the finished output folder ``out``; tests only read it."""
    folder = tmp_path_factory.mktemp("release")
    save_tiny_pair(folder)
    (folder / "one.toml").write_text(SETTINGS + PAIR.format(name="one"))
    (folder / "two.toml").write_text(SETTINGS + PAIR.format(name="one") + PAIR.format(name="two"))
    (folder / "test_release.py").write_text("def test_effect(effect):\n    assert effect.holds, effect.message\n")
    assert main(["compare", "--pairs", str(folder / "one.toml"), "--output", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def out(folder: Path, tmp_path: Path) -> Iterator[Path]:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")}
    with read_only(folder / "out", tmp_path / "mounted") as out:
        yield out
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")} == before


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(Checkpoint, "load", load)


@pytest.mark.usefixtures("unloadable")
def test_a_finished_folder_is_judged(folder: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--pairs", str(folder / "one.toml"), "--output", str(out)]) == 0
    judged = capsys.readouterr()
    assert judged.err == "one: measured before, and nothing has changed since\n"
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out == judged.out
    assert main(["plan", str(folder / "one.toml"), "--output", str(out)]) == 0


@pytest.mark.usefixtures("unloadable")
def test_a_finished_folder_is_judged_by_pytest(folder: Path, out: Path, pytester: pytest.Pytester) -> None:
    arguments = (folder / "test_release.py", f"--pairs={folder / 'one.toml'}", f"--rlcircuits-output={out}")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *PLUGIN, *arguments)
    result.assert_outcomes(passed=1, skipped=3)  # only accuracy is asserted of preference training


@pytest.mark.usefixtures("unloadable")
def test_what_must_be_made_is_refused_before_the_work(
    folder: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--pairs", str(folder / "two.toml"), "--output", str(out)]) == 2
    shown = capsys.readouterr()
    assert "\none\n" in shown.out  # the other pair's table is there all the same
    error = shown.err.splitlines()[-1]
    assert error.startswith(f"rlcircuits: pair 'two': output: no file can be written in the folder {out}: ")
    # A folder that holds nothing yet is refused before anything is looked at.
    (tmp_path / "empty").mkdir()
    with read_only(tmp_path / "empty", tmp_path / "nothing") as nothing:
        assert main(["compare", "--pairs", str(folder / "two.toml"), "--output", str(nothing)]) == 2
        error = f"rlcircuits: --output: no file can be written in the folder {nothing}: "
        assert capsys.readouterr().err.startswith(error)
