"""Cache answers while they are generated, so that an interrupted run resumes where it stopped.

The cache is a folder with one file for each key; `answer_file.py` defines its lines. The life of a file:

1. `cache_key` hashes everything that the answers depend on: weights, prompts, sampling, engine, grader.
2. `open_cache` finds the file of that key. A finished file is only read. Otherwise the process takes the file's write
   lock, reads the batches that are complete, and truncates the file after them.
3. `AnswerLog.append` adds one batch and returns when the batch is on disk.

Several processes may make the batches of one file together (`cache_with_others`): each batch is a file of its own
until all are there. A run that is resumed alone reads these files too (`is_shared`).

A batch counts only if all of its lines are on disk. Since every batch has a seed of its own, a resumed run writes the
same bytes as one that was not interrupted.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlcircuits.answers.answer_file import (
    FORMAT,
    VERSION,
    Header,
    Line,
    format_answer,
    format_header,
    parse_answers,
    parse_header,
)
from rlcircuits.answers.question_prompts import QuestionPrompts
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import (
    Notify,
    cache_path,
    content_hash,
    fsync_folder,
    short_name,
    write_atomically,
    write_lock,
)
from rlcircuits.common.shared_work import make_with_others
from rlcircuits.questions.question_set import QuestionSet

__all__ = ["AnswerLog", "cache_key", "cache_with_others", "cached_headers", "engine_in_keys", "is_shared", "open_cache"]


_ARITHMETIC = {"vllm": "vllm, in the dtype that is scored"}
"""What stands for an engine in keys whose arithmetic has changed, so that its earlier answers are made again: vLLM
rounded float32 to half precision, by its default."""


def engine_in_keys(engine: str) -> str:
    """Return what stands for an engine in keys of whatever depends on its answers."""
    return _ARITHMETIC.get(engine, engine)


def cache_key(header: Header, source: Source, questions: QuestionSet, prompts: QuestionPrompts) -> str:
    """Return the hash of everything that cached answers depend on."""
    asked = zip(questions.questions, prompts.ids, prompts.images, strict=True)
    return content_hash(
        {
            "format": [FORMAT, VERSION],
            "source": source.fingerprint(),
            "set": [questions.name, questions.split],
            "asked": [[q.id, q.gold, ids, *([] if images is None else [images.key])] for q, ids, images in asked],
            "grader": questions.grader,
            "sampling": header.sampling.table(),
            "prompting": header.prompting.model_dump() if header.prompting else None,
            "engine": None if header.engine is None else engine_in_keys(header.engine),
            "batch_size": header.batch_size,
        }
    )


class AnswerLog:
    """The answers so far, in the order of generation, and the file that caches them.

    Args:
        path: the file that batches are appended to; None to cache nothing.
        lines: the answers that the file already holds.
    """

    def __init__(self, path: Path | None, lines: list[Line]) -> None:
        self._path = path
        self.lines = lines

    def append(self, batch: Sequence[Line]) -> None:
        """Add one batch. Returns when the batch is on disk."""
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(b"".join(format_answer(line) for line in batch))
                file.flush()
                os.fsync(file.fileno())
        self.lines += batch


@contextmanager
def open_cache(
    folder: Path | None, header: Header, order: Sequence[tuple[int, int]], notify: Notify | None = None
) -> Iterator[AnswerLog]:
    """Open the cached answers with this header, or begin a new file for them.

    Args:
        folder: the cache; None to cache nothing.
        header: what the answers are of. Its key selects the file.
        order: question index and sample index of every answer, in the order of generation.
        notify: called with one line if another process writes the file, which is then waited for.

    Yields:
        The answers of complete batches, to which further batches can be appended.

    Raises:
        RLCircuitsError: the file is damaged or belongs to other settings.
    """
    if folder is None:
        yield AnswerLog(None, [])
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = _cache_file(folder, header)
    if len(_complete_lines(path)) == 1 + len(order):
        yield AnswerLog(path, _complete_batches(path, header, order))
        return
    with write_lock(path, notify):
        lines = _complete_batches(path, header, order)
        _truncate(path, header, len(lines))
        yield AnswerLog(path, lines)


def cache_with_others(
    folder: Path, header: Header, order: Sequence[tuple[int, int]], make: Callable[[int], Sequence[Line]]
) -> None:
    """Make the answers with this header together with other processes that call this at the same time.

    Args:
        folder: the cache.
        header: what the answers are of.
        order: as for :func:`open_cache`.
        make: returns the answers of the batch with this number.

    Raises:
        RLCircuitsError: the file is damaged or belongs to other settings.
    """
    assert header.batch_size is not None, "answers are generated in batches"
    folder.mkdir(parents=True, exist_ok=True)
    path = _cache_file(folder, header)
    parts = _parts_folder(folder, header)
    in_file = _CompleteBatches(path, header.batch_size, len(order))

    def file_of(batch: int) -> Path:
        return parts / f"batch-{batch:06d}.jsonl"

    def write(batch: int) -> None:
        lines = make(batch)

        def write_lines(partial: Path) -> None:
            partial.write_bytes(b"".join(format_answer(line) for line in lines))

        write_atomically(file_of(batch), write_lines)

    count = math.ceil(len(order) / header.batch_size)
    make_with_others(range(count), file_of, lambda batch: file_of(batch).is_file() or batch < in_file.count(), write)
    if in_file.count() < count:
        with write_lock(path):
            done = len(_complete_batches(path, header, order))
            _truncate(path, header, done)
            with path.open("ab") as file:
                for batch in range(math.ceil(done / header.batch_size), count):
                    file.write(file_of(batch).read_bytes())
                file.flush()
                os.fsync(file.fileno())
    shutil.rmtree(parts, ignore_errors=True)  # others that still look into it find the answers in the file


def is_shared(folder: Path, header: Header) -> bool:
    """Return whether processes share the batches of this file, or did so until they were stopped."""
    return _parts_folder(folder, header).is_dir()


def _parts_folder(folder: Path, header: Header) -> Path:
    return folder / f".answers-{header.key}"


class _CompleteBatches:
    """The number of complete batches in a file of answers, which is read again only after it has changed."""

    def __init__(self, path: Path, batch_size: int, answers: int) -> None:
        self._path, self._batch_size, self._answers = path, batch_size, answers
        self._seen: tuple[int, int] | None = None
        self._count = 0

    def count(self) -> int:
        """Return it as the file is now."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0
        if (seen := (found.st_size, found.st_mtime_ns)) != self._seen:
            answers = len(_complete_lines(self._path)) - 1
            whole = answers >= self._answers
            self._count = math.ceil(self._answers / self._batch_size) if whole else max(answers, 0) // self._batch_size
            self._seen = seen
        return self._count


def cached_headers(folder: Path) -> Iterator[tuple[Path, Header]]:
    """Yield each file of answers in a cache, with its header; other files are left out."""
    for path in sorted(each for each in folder.glob("*.jsonl") if each.is_file()):
        with path.open("rb") as file:
            first = file.readline()
        try:
            header = parse_header(path, first)
        except RLCircuitsError:
            continue  # the cache holds other files too, such as the throughput
        yield path, header


def _cache_file(folder: Path, header: Header) -> Path:
    assert header.key is not None, "only answers with a key are cached"
    words = (short_name(header.model), header.question_set, header.split)
    return cache_path(folder, words, header.key, ".jsonl")


def _complete_batches(path: Path, header: Header, order: Sequence[tuple[int, int]]) -> list[Line]:
    """Return the answers of the file's complete batches, after checking that they are the first of `order`."""
    lines = _complete_lines(path)
    if not lines:
        return []
    if parse_header(path, lines[0]).key != header.key:
        raise RLCircuitsError(f"{path}:1: these answers were made for other settings; move the file away")
    count = len(lines) - 1
    if count < len(order):
        assert header.batch_size is not None, "a cached file has batches"
        count -= count % header.batch_size
    found = parse_answers(path, lines[1 : 1 + count], header.sampling.n)
    for number, (line, (place, sample)) in enumerate(zip(found, order, strict=False), start=2):
        for field, value, wanted in (("place", line.place, place), ("sample", line.sample, sample)):
            if value != wanted:
                raise RLCircuitsError(f"{path}:{number}: field {field!r} is {value}; {wanted} is wanted")
    if count > len(order):
        raise RLCircuitsError(f"{path}:{len(order) + 2}: there are {count} answers; {len(order)} are wanted")
    return found


def _truncate(path: Path, header: Header, count: int) -> None:
    """Truncate the file after its first `count` answers, or begin it with the header, and sync it to disk."""
    lines = _complete_lines(path)
    if not lines:
        path.write_bytes(format_header(header))
    with path.open("rb+") as file:
        if lines:
            file.truncate(sum(map(len, lines[: 1 + count])))
        os.fsync(file.fileno())
    fsync_folder(path.parent)


def _complete_lines(path: Path) -> list[bytes]:
    """Return the file's lines with their newlines, without a last line that has none; [] if there is no file."""
    if not path.is_file():
        return []
    return [line + b"\n" for line in path.read_bytes().split(b"\n")[:-1]]
