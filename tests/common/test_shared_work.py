"""Work that several makers share: each part is made once, whoever dies, and no one waits for longer than a part."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.common.shared_work import make_with_others


class Dies(Exception):
    """A maker that ends in the middle of a part."""


@settings(max_examples=25, deadline=None)
@given(
    parts=st.integers(0, 12),
    there=st.sets(st.integers(0, 11)),
    makers=st.integers(1, 4),
    dying=st.sets(st.integers(0, 11), max_size=3),
)
def test_each_part_is_made_once(
    parts: int, there: set[int], makers: int, dying: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Locks are those of files, which keep threads apart as they do processes."""
    folder = tmp_path_factory.mktemp("parts")
    for part in there & set(range(parts)):
        (folder / str(part)).touch()
    made: list[int] = []
    died: list[int] = []
    guard = threading.Lock()

    def make(part: int) -> None:
        with guard:
            dies = part in dying - set(died)
            (died if dies else made).append(part)
        if dies:
            raise Dies
        (folder / str(part)).touch()

    def work(_: int) -> None:
        while True:  # who dies is tried again, as by Ray
            try:
                make_with_others(
                    range(parts), lambda part: folder / str(part), (lambda p: (folder / str(p)).exists()), make
                )
            except Dies:
                continue
            return

    with ThreadPoolExecutor(makers) as pool:
        list(pool.map(work, range(makers)))
    assert sorted(made) == sorted(set(range(parts)) - there)
    assert {path.name for path in folder.iterdir()} == {str(part) for part in range(parts)}  # no lock is left


def test_a_slow_maker_holds_one_part(tmp_path: Path) -> None:
    made: dict[str, list[int]] = {"slow": [], "fast": []}
    others_done = threading.Event()

    def work(who: str) -> None:
        def make(part: int) -> None:
            if who == "slow":
                assert others_done.wait(60)
            made[who].append(part)
            if len(made["fast"]) == 9:
                others_done.set()
            (tmp_path / str(part)).touch()

        make_with_others(range(10), lambda part: tmp_path / str(part), (lambda p: (tmp_path / str(p)).exists()), make)

    slow = threading.Thread(target=work, args=("slow",))
    slow.start()
    while not (tmp_path / ".0.lock").exists():
        time.sleep(0.001)
    work("fast")
    slow.join()
    assert made == {"slow": [0], "fast": list(range(1, 10))}
