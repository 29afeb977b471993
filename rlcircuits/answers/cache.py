"""Answers kept as they come: a file that only grows, batch by batch, and is taken up again where it ends.

A batch counts once all its lines are on disk. What a killed process left of a batch is cut off and made again;
since every batch draws from a seed of its own, the file then has the bytes it would have had anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlcircuits.answers.answer_file import Header, Line, answer_line, header_line, parse_answers, parse_header
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, cache_path, fsync_folder, short_name, write_lock


class AnswerLog:
    """Answers that are being made, in the order they are made, and the file they are kept in, if any.

    lines: those of whole batches that were there already, and what was appended.
    """

    def __init__(self, path: Path | None, lines: list[Line]) -> None:
        self._path = path
        self.lines = lines

    def append(self, batch: Sequence[Line]) -> None:
        """Add one batch, and wait until it is on disk."""
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(b"".join(answer_line(line) for line in batch))
                file.flush()
                os.fsync(file.fileno())
        self.lines += batch


def store_path(store: Path, header: Header) -> Path:
    """The file in the folder ``store`` for answers with this header."""
    assert header.key is not None, "only answers with a key are kept"
    words = (short_name(header.model), header.question_set, header.split)
    return cache_path(store, words, header.key, ".jsonl")


@contextmanager
def answer_log(
    store: Path | None, header: Header, order: Sequence[tuple[int, int]], notify: Notify | None = None
) -> Iterator[AnswerLog]:
    """Open the answers with this header, or begin them; without a ``store`` nothing is kept.

    order: each answer's question's place in the question set and its sample, in the order the answers are made.
    notify: is told when another process writes the file, which is waited for.
    A finished file is only read. Raises RLCircuitsError for a file that is damaged or belongs to other settings.
    """
    if store is None:
        yield AnswerLog(None, [])
        return
    store.mkdir(parents=True, exist_ok=True)
    path = store_path(store, header)
    if len(_whole_lines(path)) == 1 + len(order):
        yield AnswerLog(path, _kept(path, header, order))
        return
    with write_lock(path, notify):
        kept = _kept(path, header, order)
        _cut(path, header, len(kept))
        yield AnswerLog(path, kept)


def _kept(path: Path, header: Header, order: Sequence[tuple[int, int]]) -> list[Line]:
    """The answers of whole batches in the file, checked against what is to be made."""
    lines = _whole_lines(path)
    if not lines:
        return []
    if parse_header(path, lines[0]).key != header.key:
        raise RLCircuitsError(f"{path}:1: these answers were made for other settings; move the file away")
    count = len(lines) - 1
    if count < len(order):
        assert header.batch_size is not None, "a stored file has batches"
        count -= count % header.batch_size
    found = parse_answers(path, lines[1 : 1 + count], header.sampling.n)
    for number, (line, (place, sample)) in enumerate(zip(found, order, strict=False), start=2):
        for field, value, wanted in (("place", line.place, place), ("sample", line.sample, sample)):
            if value != wanted:
                raise RLCircuitsError(f"{path}:{number}: field {field!r} is {value}; {wanted} is wanted")
    if count > len(order):
        raise RLCircuitsError(f"{path}:{len(order) + 2}: there are {count} answers; {len(order)} are wanted")
    return found


def _cut(path: Path, header: Header, kept: int) -> None:
    """Leave the header and ``kept`` answers in the file, and the file on disk."""
    lines = _whole_lines(path)
    if not lines:
        path.write_bytes(header_line(header))
    with path.open("rb+") as file:
        if lines:
            file.truncate(sum(map(len, lines[: 1 + kept])))
        os.fsync(file.fileno())
    fsync_folder(path.parent)


def _whole_lines(path: Path) -> list[bytes]:
    """The file's lines, each with its end; a last one that was cut off is not among them."""
    if not path.is_file():
        return []
    return [line + b"\n" for line in path.read_bytes().split(b"\n")[:-1]]
