"""Mirrors of one URL: whatever machines do at a time, it gets the union of their work, and nothing half written."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.mirror_machines import (
    DOINGS,
    KEYS,
    LINES,
    Machine,
    World,
    check_whole,
    is_settled,
    key_and_batch,
    lines_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import COMPARISON_FILE, STORE, cache_path, write_lock, write_text_atomically
from rlcircuits.common.mirror import SCRATCH_VARIABLE, Mirror, scratch_folder

pytest.importorskip("obstore", reason="obstore is not installed: pip install '.[remote]'")


@settings(max_examples=30, deadline=None)
@given(doings=st.lists(st.tuples(st.integers(0, 1), DOINGS), max_size=14))
def test_the_url_gets_the_union_and_nothing_half_written(
    doings: list[tuple[int, tuple[Any, ...]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(tmp_path_factory.mktemp("mirror"))
    for who, what in doings:
        world.do(who, what)
    world.between.clear()
    for machine in world.machines:
        machine.mirror.upload()
    reader = world.look()
    for key in KEYS:
        path = reader.answers(key)
        assert (path.read_bytes() if path.is_file() else b"") == lines_of(key, world.longest[key])
    assert {key_and_batch(path) for path in reader.folder.glob(f"{STORE}/*/batch-*")} == world.batches
    if any(is_settled(machine, "one") for machine in world.machines):
        assert is_settled(reader, "one")


def test_machines_that_write_at_once(tmp_path: Path) -> None:
    """Two write and upload at the same time, and a third reads meanwhile."""
    url = f"file://{tmp_path}/there"
    machines = [Machine(url, tmp_path / name) for name in ("A", "B")]
    ended = threading.Event()

    def work(machine: Machine) -> None:
        with machine.mirror:
            for turn in range(12):
                machine.add_answers(KEYS[turn % 2])
                machine.add_batch(KEYS[0], turn)
                machine.mirror.upload()

    def read() -> None:
        number = 0
        while not ended.is_set():
            check_whole(Machine(url, tmp_path / f"reader-{number}"))
            number += 1

    with ThreadPoolExecutor(3) as pool:
        reading = pool.submit(read)
        list(pool.map(work, machines))
        ended.set()
        reading.result()
    last = Machine(url, tmp_path / "last")
    check_whole(last)
    assert all(last.answers(key).read_bytes() == lines_of(key, LINES) for key in KEYS)
    assert len(list(last.folder.glob(f"{STORE}/*/batch-*"))) == 12


@pytest.fixture
def pair_of_machines(tmp_path: Path) -> tuple[Machine, Machine]:
    url = f"file://{tmp_path}/there"
    return Machine(url, tmp_path / "A"), Machine(url, tmp_path / "B")


def test_a_key_is_fetched_when_it_is_looked_up(pair_of_machines: tuple[Machine, Machine]) -> None:
    one, other = pair_of_machines
    for key in KEYS:
        one.add_answers(key)
        one.add_batch(key, 0)
    one.mirror.upload()
    with other.mirror:
        assert other.answers(KEYS[0]).read_bytes() == lines_of(KEYS[0], 1)
        assert cache_path(other.folder / STORE, ("run",), KEYS[0]).is_dir()
        assert not list(other.folder.glob(f"{STORE}/*{KEYS[1][:12]}*"))
    assert cache_path(other.folder / STORE, ("other", "words"), KEYS[1]).name == f"other-words-{KEYS[1][:12]}"


def test_a_file_that_a_process_writes_is_not_replaced(pair_of_machines: tuple[Machine, Machine]) -> None:
    one, other = pair_of_machines
    for _ in range(3):
        one.add_answers(KEYS[0])
    one.mirror.upload()
    other.add_answers(KEYS[0])
    with write_lock(other.answers(KEYS[0])):
        other.mirror.fetch_key("")
        assert other.answers(KEYS[0]).read_bytes() == lines_of(KEYS[0], 1)
    other.mirror.fetch_key("")
    assert other.answers(KEYS[0]).read_bytes() == lines_of(KEYS[0], 3)


def test_of_two_manifests_the_first_stays(pair_of_machines: tuple[Machine, Machine]) -> None:
    """Machines of different memory cut the batches differently; each goes on with its own."""
    for text, machine in zip(("first", "the second"), pair_of_machines, strict=True):
        write_text_atomically(machine.made(machine.folder / STORE / "run-key") / "manifest.json", text)
        machine.mirror.upload()
    one, other = pair_of_machines
    other.mirror.fetch_key("")
    assert (other.folder / STORE / "run-key" / "manifest.json").read_text() == "the second"
    third = Machine(one.mirror.url, one.folder.parent.parent / "C")
    third.mirror.fetch_key("")
    assert (third.folder / STORE / "run-key" / "manifest.json").read_text() == "first"


def test_a_damaged_batch_that_is_made_again_replaces_the_one_there(pair_of_machines: tuple[Machine, Machine]) -> None:
    one, other = pair_of_machines
    one.add_batch(KEYS[0], 0)
    (file,) = one.folder.glob(f"{STORE}/*/batch-*")
    file.write_text("damaged")
    one.mirror.upload()
    file.unlink()
    one.add_batch(KEYS[0], 0)
    one.mirror.upload()
    check_whole(other)


def test_a_pair_that_was_measured_here_and_not_uploaded_is_kept(pair_of_machines: tuple[Machine, Machine]) -> None:
    one, other = pair_of_machines
    one.finish("one", 1)
    one.mirror.upload()
    other.finish("one", 2)
    other.mirror.fetch_results()
    assert is_settled(other, "one")
    assert "one 2" in (other.folder / "one" / COMPARISON_FILE).read_text()
    other.mirror.upload()
    one.mirror.fetch_results()
    assert "one 2" in (one.folder / "one" / COMPARISON_FILE).read_text()


def test_locks_partial_files_and_the_throughput_stay_here(pair_of_machines: tuple[Machine, Machine]) -> None:
    one, other = pair_of_machines
    for name in (".run.lock", f".run.{'0' * 32}.tmp", "pace.jsonl"):
        (one.folder / STORE / name).write_text("here")
    one.add_batch(KEYS[0], 0)
    one.mirror.upload()
    other.mirror.fetch_key("")
    assert [path.name for path in other.folder.rglob("*") if path.is_file()] == ["batch-0.safetensors"]


def test_a_download_that_is_cut_short_leaves_no_file(
    pair_of_machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair_of_machines
    one.add_batch(KEYS[0], 0)
    one.mirror.upload()
    real = other.mirror._remote._obstore.get

    class Cut:
        def __init__(self, got: Any) -> None:
            self.meta, self._got = got.meta, got

        def stream(self) -> list[bytes]:
            return [b"".join(bytes(part) for part in self._got.stream())[:-1]]

    cut = SimpleNamespace(**{**vars(other.mirror._remote._obstore), "get": lambda *a: Cut(real(*a))})
    monkeypatch.setattr(other.mirror._remote, "_obstore", cut)
    with pytest.raises(RLCircuitsError, match=r"batch-0\.safetensors: 3 downloads had other sizes than the object's"):
        other.mirror.fetch_key("")
    assert not [path for path in other.folder.rglob("*") if path.is_file()]


def test_what_cannot_be_uploaded_is_uploaded_by_the_next_run(
    pair_of_machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    """The disk of the store is gone for a while."""
    one, other = pair_of_machines
    one.finish("one", 1)
    (tmp_path / "there").rmdir()
    (tmp_path / "there").write_text("no folder")
    with (
        pytest.raises(RLCircuitsError, match=r"not uploaded yet are in .*, and the same command on this machine"),
        one.mirror,
    ):
        pass
    (tmp_path / "there").unlink()
    with one.mirror:
        pass
    other.mirror.fetch_results()
    assert is_settled(other, "one")


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_upload(tmp_path: Path) -> None:
    told: list[str] = []
    machine = Machine(f"file://{tmp_path}/there", tmp_path / "A")
    mirror = Mirror(f"file://{tmp_path}/there", tmp_path / "A", notify=told.append)
    machine.finish("one", 1)
    (tmp_path / "there").rmdir()
    (tmp_path / "there").write_text("no folder")
    with pytest.raises(ZeroDivisionError), mirror:
        raise ZeroDivisionError
    assert len(told) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://bucket/run", r"the protocol ftp:// is not known; s3://, gs://, file:// are"),
        ("s3://", r"s3://: names no bucket and folder; write s3://BUCKET/FOLDER"),
        ("s3:/bucket/run", r"names no bucket and folder"),
    ],
)
def test_a_url_that_is_none(url: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=words):
        Mirror(url, tmp_path)


def test_obstore_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(RLCircuitsError, match=r"obstore, which reads it, is not installed .* 'rlcircuits\[remote\]'"):
        Mirror("s3://bucket/run", tmp_path)


def test_a_scratch_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(RLCircuitsError, match=f"set {SCRATCH_VARIABLE} to a folder that can be written"):
        Mirror(f"file://{tmp_path}/there")


def test_urls_have_scratch_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path))
    assert scratch_folder("s3://bucket/run") == scratch_folder("s3://bucket/run/")
    assert scratch_folder("s3://bucket/run") != scratch_folder("s3://bucket-run")
    assert scratch_folder("s3://bucket/run").parent == tmp_path
