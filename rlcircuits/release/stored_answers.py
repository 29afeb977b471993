"""Find the files of answers in a store, the damaged ones included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.answers.answer_file import Header, parse_header
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import fetch_stored
from rlcircuits.common.input_files import read_file
from rlcircuits.release.throughput import FILE_NAME as THROUGHPUT


@dataclass(frozen=True)
class DamagedAnswers:
    """A file of answers whose header cannot be read."""

    words: str
    """The file, and what is wrong with it."""


def read_answer_files(store: Path) -> Iterator[tuple[Path, Header | DamagedAnswers]]:
    """Yield each file of answers in a store with its header; :func:`rlcircuits.answers.cache.cached_headers` leaves
    out the damaged ones.
    """
    fetch_stored(store)
    for path in sorted(store.glob("*.jsonl")):
        if path.name == THROUGHPUT:
            continue
        try:
            yield path, parse_header(path, read_file(path, "answers").partition(b"\n")[0])
        except RLCircuitsError as error:
            yield path, DamagedAnswers(str(error))
