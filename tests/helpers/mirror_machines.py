"""Machines that mirror one URL, what a run does to an output folder on each, and what a third one sees meanwhile."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from rlcircuits.common.files import COMPARISON_FILE, STORE, cache_path, write_text_atomically
from rlcircuits.common.mirror import Mirror

KEYS = ("a" * 64, "b" * 64)
LINES = 6


def lines_of(key: str, count: int) -> bytes:
    """The first lines of the answers of a key, which every machine makes alike."""
    return b"".join(f"{key[:3]} {line} {'x' * 200}\n".encode() for line in range(count))


def batch_of(key: str, batch: int) -> str:
    return f"{key}-{batch}-" + hashlib.sha256(f"{key}{batch}".encode()).hexdigest() * 20


class Machine:
    """What a machine does to an output folder, by the files that a run writes."""

    def __init__(self, url: str, scratch: Path) -> None:
        self.mirror = Mirror(url, scratch)
        self.folder = self.mirror.folder
        self.is_dead = False
        (self.folder / STORE).mkdir(parents=True, exist_ok=True)

    def answers(self, key: str) -> Path:
        return cache_path(self.folder / STORE, ("model",), key, ".jsonl")

    def add_answers(self, key: str) -> None:
        """Append a line, as a run that goes on from what is there."""
        path = self.answers(key)
        path.parent.mkdir(exist_ok=True)
        there = path.read_bytes().count(b"\n") if path.is_file() else 0
        if there < LINES:
            with path.open("ab") as file:
                file.write(lines_of(key, there + 1)[len(lines_of(key, there)) :])

    def half_a_line(self, key: str) -> None:
        """Die in the middle of a line; what is appended next comes after it was cut off, as a run does it."""
        path = self.answers(key)
        whole = path.read_bytes() if path.is_file() else b""
        path.write_bytes(whole + b"half of")
        self.is_dead = True
        self.mirror.upload()
        self.is_dead = False
        path.write_bytes(whole)

    def add_batch(self, key: str, batch: int) -> None:
        folder = self.made(cache_path(self.folder / STORE, ("run",), key))
        write_text_atomically(folder / f"batch-{batch}.safetensors", batch_of(key, batch))

    @staticmethod
    def made(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        return folder

    def finish(self, pair: str, setting: int) -> None:
        """Measure a pair: its answers, and then the comparison of them."""
        folder = self.made(self.folder / pair)
        answers = f"{pair} {setting} " + "y" * 100
        for side in ("before", "after"):
            write_text_atomically(folder / f"{side}.answers.jsonl", f"{side} {answers}")
        write_text_atomically(folder / COMPARISON_FILE, json.dumps({"of": answers}))

    def begin(self, pair: str, setting: int) -> None:
        """Measure a pair anew, and die before the comparison."""
        answers = f"before {pair} {setting} " + "y" * 100
        write_text_atomically(self.made(self.folder / pair) / "before.answers.jsonl", answers)


def check_whole(reader: Machine) -> None:
    """Fetch everything, as a machine that has nothing yet, and see that nothing is torn."""
    reader.mirror.fetch_results()
    reader.mirror.fetch_key("")
    for key in KEYS:
        if (path := reader.answers(key)).is_file():
            assert path.read_bytes() in [lines_of(key, count) for count in range(LINES + 1)]
    for path in reader.folder.glob(f"{STORE}/*/batch-*"):
        assert path.read_text() == batch_of(*key_and_batch(path))
    folder = reader.folder / "one"
    if folder.exists():
        of = json.loads((folder / COMPARISON_FILE).read_text())["of"]
        for side in ("before", "after"):
            assert (folder / f"{side}.answers.jsonl").read_text() == f"{side} {of}"


def key_and_batch(path: Path) -> tuple[str, int]:
    digits = path.parent.name.rpartition("-")[2]
    return next(key for key in KEYS if key.startswith(digits)), int(path.stem.rpartition("-")[2])


_QUIET = st.one_of(
    st.tuples(st.just("add_answers"), st.just(KEYS[0])),
    st.tuples(st.just("half_a_line"), st.just(KEYS[0])),
    st.tuples(st.just("add_batch"), st.sampled_from(KEYS), st.integers(0, 2)),
    st.tuples(st.just("finish"), st.just("one")),
    st.tuples(st.just("finish"), st.just("one")),
    st.tuples(st.just("begin"), st.just("one")),
    st.tuples(st.just("fetch")),
    st.tuples(st.just("restart")),
)
UPLOAD = st.tuples(st.just("upload"), st.lists(st.one_of(_QUIET, st.tuples(st.just("upload"))), max_size=3))
DOINGS = st.one_of(_QUIET, UPLOAD, st.tuples(st.just("other settings")))


class World:
    """Two machines, of which one may do something between two requests of the other's upload."""

    def __init__(self, base: Path) -> None:
        self.base, self.url = base, f"file://{base}/there"
        self.machines = [self._machine(name) for name in ("A", "B")]
        self.longest = dict.fromkeys(KEYS, 0)
        self.batches: set[tuple[str, int]] = set()
        self.setting = 0
        """Of both machines: two runs that measure one pair differently at one time need a URL each."""
        self.readers = 0
        self.between: list[tuple[int, tuple[Any, ...]]] = []

    def _machine(self, name: str) -> Machine:
        machine = Machine(self.url, self.base / name)
        for request in ("create", "replace", "overwrite", "remove"):
            self._watch(machine.mirror._remote, request)
        return machine

    def _watch(self, remote: Any, request: str) -> None:
        """Look at what is there after each request, and let the other machine do what is to be done between two."""
        real = getattr(remote, request)

        def watched(*arguments: Any) -> Any:
            done = real(*arguments)
            self.look()
            if self.between:
                self.do(*self.between.pop(0))
            return done

        setattr(remote, request, watched)

    def look(self) -> Machine:
        """What a machine finds that has nothing yet, after a check that nothing is torn."""
        self.readers += 1
        reader = Machine(self.url, self.base / f"reader-{self.readers}")
        check_whole(reader)
        return reader

    def do(self, who: int, what: tuple[Any, ...]) -> None:
        machine = self.machines[who]
        if machine.is_dead:
            return
        if machine.mirror._uploading.locked() and what[0] in ("upload", "half_a_line", "restart"):
            return
        if what[0] == "upload":
            self.between += [(1 - who, each) for each in (what[1] if len(what) > 1 else ())]
            machine.mirror.upload()
        elif what[0] == "fetch":
            machine.mirror.fetch_key(KEYS[0][:12])
            machine.mirror.fetch_results(["one"])
        elif what[0] == "restart":
            self.machines[who] = self._machine("AB"[who])
        elif what[0] == "other settings":
            for each in self.machines:
                each.mirror.upload()
            self.setting += 1
        elif what[0] in ("finish", "begin"):
            getattr(machine, what[0])(what[1], self.setting)
        else:
            getattr(machine, what[0])(*what[1:])
        if what[0] == "add_answers":
            self.longest[what[1]] = max(self.longest[what[1]], machine.answers(what[1]).read_bytes().count(b"\n"))
        elif what[0] == "add_batch":
            self.batches.add((what[1], what[2]))


def is_settled(machine: Machine, pair: str) -> bool:
    """Whether the comparison here is of the answers beside it, and was written after them."""
    comparison, answers = machine.folder / pair / COMPARISON_FILE, machine.folder / pair / "before.answers.jsonl"
    if not comparison.is_file() or comparison.stat().st_mtime_ns < answers.stat().st_mtime_ns:
        return False
    return answers.read_text() == f"before {json.loads(comparison.read_text())['of']}"
