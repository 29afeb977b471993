"""Files written whole, by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from helpers.held_locks import held, run_while_held, wait_until
from safetensors.torch import save_file

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ensure_writable_file, write_atomically, write_lock, write_text_atomically


def test_two_processes_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    """Both are in the middle of writing at once, and the one that ends last wins with a whole file."""
    path = tmp_path / "result"
    begun: list[str] = []

    def write(text: str) -> None:
        def slowly(partial: Path) -> None:
            with partial.open("w") as file:
                for part in text:
                    file.write(part)
                    file.flush()
                    begun.append(text)
                    wait_until(lambda: len(set(begun)) == 2)

        write_atomically(path, slowly)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["aaaa", "bbbb"]))
    assert path.read_text() in ("aaaa", "bbbb")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")

    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_file_of_safetensors_may_be_read_by_those_who_may_read_any_new_file(tmp_path: Path) -> None:
    """safetensors replaces the file by one that only its owner may read."""
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "scores", lambda partial: save_file({"one": torch.zeros(1)}, partial))
    assert (tmp_path / "scores").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_the_longest_name_is_written_and_a_longer_one_is_refused_before_any_work(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    assert ensure_writable_file(file, "--out") == file
    write_text_atomically(file, "text")
    assert file.read_text(encoding="utf-8") == "text"
    with pytest.raises(RLCircuitsError, match=r"--out: .* File name too long"):
        ensure_writable_file(tmp_path / ("n" * 256), "--out")


def test_a_process_waits_for_the_lock_and_says_so(tmp_path: Path) -> None:
    path, order = tmp_path / "result", []

    def write(notify: object) -> None:
        with write_lock(path, notify):  # type: ignore[arg-type]
            order.append("second")

    run_while_held(path, write, lambda: order.append("first"))
    assert order == ["first", "second"]


def test_a_process_that_need_not_wait_prints_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    for name in ("one", "one", "two"):
        with held(tmp_path / "other"), write_lock(tmp_path / name, told.append):
            pass
    assert told == []


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "result"
    code = (
        "import pathlib, sys, time\nfrom rlcircuits.common.files import write_lock\n"
        "path = pathlib.Path(sys.argv[1])\nwith write_lock(path):\n    path.touch()\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
        try:
            wait_until(path.exists)
        finally:
            process.kill()
    told: list[str] = []
    with write_lock(path, told.append):
        pass
    assert told == []
