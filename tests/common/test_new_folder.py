"""Folders that appear only when they are complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.held_locks import wait_until
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import is_partial, partial_path
from rlcircuits.common.new_folder import check_new_folder, new_folder

_FILL_AND_WAIT = """
import pathlib, sys, time
from rlcircuits.common.new_folder import new_folder
with new_folder(pathlib.Path(sys.argv[1]), "--out") as partial:
    (partial / "half").write_text("half")
    time.sleep(600)
"""

names = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 256
)


def save(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.touch()


def interrupt(folder: Path) -> None:
    save(folder / "file")
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["out", "a/b/out", "n" * 255, "ü" * 120])
def test_a_folder_appears_when_it_is_complete(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with new_folder(folder, "--out") as partial:
        (partial / "file").write_text("text")
        (partial / "sub").mkdir()
        assert not folder.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["file", "sub"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", "--out") as partial:
        (partial / "file").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out", "--out") as partial:
        interrupt(partial)
    assert list(tmp_path.iterdir()) == []


def test_files_that_came_meanwhile_stay(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="not empty, it holds mine"), new_folder(tmp_path / "out", "--out"):
        save(tmp_path / "out" / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (".", r"--out: \. is the working folder"),
        ("link", "--out: link is a link"),
        ("dangling", "--out: dangling is a link"),
        ("file", "--out: file is a file"),
        ("file/out", "--out: file/out cannot be written: .*file is a file"),
        ("full", "--out: full is not empty, it holds a;"),
        ("n" * 256, "--out: nn.* File name too long"),
        ("/proc", "--out: /proc is not empty"),
    ],
)
def test_what_can_be_no_new_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here" if name == "." else tmp_path)
    if name != ".":
        Path("empty").mkdir()
        Path("full").mkdir()
        Path("full/a").touch()
        Path("file").touch()
        Path("link").symlink_to("empty")
        Path("dangling").symlink_to("gone")
    for check in (check_new_folder, lambda *given: new_folder(*given).__enter__()):
        with pytest.raises(RLCircuitsError, match=says):
            check(name, "--out")


def test_a_mounted_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: True)
    with pytest.raises(RLCircuitsError, match="is a mounted folder, which cannot be replaced"):
        check_new_folder(tmp_path, "--out")


def test_what_a_killed_run_left_is_removed_and_a_living_run_is_not_disturbed(tmp_path: Path) -> None:
    folder, said = tmp_path / "out", []
    with subprocess.Popen([sys.executable, "-c", _FILL_AND_WAIT, str(folder)]) as process:
        try:
            wait_until(lambda: any(tmp_path.rglob("half")))
            with pytest.raises(RLCircuitsError, match="another process is writing"), new_folder(folder, "--out"):
                pass
            with new_folder(tmp_path / "out.2", "--out", said.append):  # of another name
                pass
            assert any(tmp_path.rglob("half"))
            assert said == []
        finally:
            process.kill()
    with new_folder(folder, "--out", said.append):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.2"]
    assert [line.endswith("which a run that was killed had left") for line in said] == [True]


@given(names, names)
def test_a_partial_name_is_known_again_and_is_short_enough(name: str, other: str) -> None:
    path = Path("folder") / name
    partial = partial_path(path)
    assert partial.parent == path.parent
    assert len(os.fsencode(partial.name)) < 256
    assert is_partial(partial, path)
    assert partial != partial_path(path)
    assert not is_partial(path, path)
    if other.encode()[:120] != name.encode()[:120]:
        assert not is_partial(partial, Path("folder") / other)
