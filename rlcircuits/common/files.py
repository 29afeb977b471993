"""Writing results: atomic writes, locks between processes, content hashes as keys, and checks before long work."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

import filelock

from rlcircuits.common.errors import RLCircuitsError

Notify = Callable[[str], None]
"""Called with one line of text about what a long step does or waits for."""

COMPARISON_FILE = "comparison.json"
"""The file of a finished pair's result, in the pair's own folder of the output folder."""

ANSWERS_SUFFIX = ".answers.jsonl"
"""How the names of the files with a pair's answers end, in that folder."""

STORE = "store"
"""Folder within an output folder that caches answers and scores. No pair may have this name."""

KEY_DIGITS = 12
"""Number of digits of a key in a file's name; the file itself has the whole key, which is compared."""

LONGEST_NAME = 120
"""Most bytes of a name before the key and the suffix are added; file systems allow 255."""


def file_hash(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(parts: Any) -> str:
    """Return the hex sha256 of a value of JSON types; the order of a mapping's keys does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


_fetchers: dict[Path, Callable[[str], None]] = {}
"""By the folder of a store that mirrors one elsewhere: what brings files here by the digits of their key."""


@contextmanager
def fetching(store: Path, fetch: Callable[[str], None]) -> Iterator[None]:
    """Call ``fetch`` with the digits of a key before the key is looked up in a store; with none before all are."""
    _fetchers[store] = fetch
    try:
        yield
    finally:
        _fetchers.pop(store, None)


def fetch_stored(store: Path, digits: str = "") -> None:
    """Bring a key's files, or all, into a store that mirrors one elsewhere; do nothing for any other folder."""
    if _fetchers and (fetch := _fetchers.get(store)) is not None:
        fetch(digits)


def written_at(files: Iterable[Path]) -> list[int | None]:
    """Return when each file was last written, in nanoseconds of its file system's clock; None for one not there."""
    return [file.stat().st_mtime_ns if file.is_file() else None for file in files]


def cache_path(folder: Path, words: tuple[str, ...], key: str, suffix: str = "") -> Path:
    """Return the path for the result with this key: an existing one under any name, else a new readable one."""
    digits = key[:KEY_DIGITS]
    fetch_stored(folder, digits)
    found = sorted(folder.glob(f"*-{digits}{suffix}"))
    if found:
        return found[0]
    return folder / f"{safe_file_name(*words)}-{digits}{suffix}"


def safe_file_name(*words: str) -> str:
    """Return the words joined to a file name that every file system allows, truncated to LONGEST_NAME bytes."""
    readable = "-".join(re.sub(r"[^\w.+]+", "-", word).strip("-.") for word in words)
    return readable.encode()[:LONGEST_NAME].decode(errors="ignore")


def short_name(source: str) -> str:
    """Return the last two parts of a path or hub id, which are enough to recognise a checkpoint."""
    return "-".join(part for part in Path(source).parts[-2:] if part not in ("/", ".", ".."))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file with ``write`` under a temporary name, sync it to disk, then rename it to ``path``."""
    partial = partial_path(path)
    try:
        partial.touch(exist_ok=False)
        mode = partial.stat().st_mode
        write(partial)
        # safetensors replaces the file by one that only its owner may read.
        if partial.stat().st_mode != mode:
            partial.chmod(mode)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    fsync_folder(path.parent)


def partial_path(path: Path) -> Path:
    """Return a new name beside ``path`` to write under before a rename; no two processes get the same one."""
    return path.with_name(f"{_partial_prefix(path)}{uuid4().hex}.tmp")


def is_partial(path: Path, finished: Path) -> bool:
    """Return whether ``path`` has a name that :func:`partial_path` gives for ``finished``."""
    return re.fullmatch(rf"{re.escape(_partial_prefix(finished))}[0-9a-f]{{32}}\.tmp", path.name) is not None


def _partial_prefix(path: Path) -> str:
    # Truncated, so that the longest name that a file system allows has room for what is added to it.
    return f".{os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])}."


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def ensure_writable_folder(folder: str | Path, option: str) -> Path:
    """Create a folder if it is missing, and check before any work that files can be written in it.

    Raises:
        RLCircuitsError: no file can be written; the text names the ``option`` that gave the folder.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits are not enough: root ignores them, and a file system may be mounted read-only.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise RLCircuitsError(f"{option}: no file can be written in the folder {folder}: {reason}") from None
    return folder


def ensure_output_folder(folder: str | Path, option: str) -> Path:
    """Do what :func:`ensure_writable_folder` does, unless the folder already holds results.

    A run over finished results may only read them, so a read-only folder is allowed; a later write still fails.
    """
    folder = Path(folder)
    return folder if any(folder.glob(f"*/{COMPARISON_FILE}")) else ensure_writable_folder(folder, option)


def ensure_writable_file(file: str | Path, option: str) -> Path:
    """Check before any work that a file can be written, and create its folder.

    Raises:
        RLCircuitsError: the file cannot be written; the text names the ``option`` that gave it.
    """
    file = Path(file)
    try:
        if file.is_dir():
            raise RLCircuitsError(f"{option}: {file} is a folder; a file's name is wanted")
        if file.exists() and not file.is_file():  # /dev/null would be replaced by a file
            raise RLCircuitsError(f"{option}: {file} is a pipe or a device; a file's name is wanted")
    except OSError as error:  # a name too long for the file system, or a folder that may not be entered
        raise RLCircuitsError(f"{option}: {file} cannot be written: {error.strerror or error}") from None
    ensure_writable_folder(file.parent, option)
    return file


def fsync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk; syncing a file alone does not persist its name."""
    if os.name == "posix":  # other systems cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def write_lock(path: Path, notify: Notify | None = None) -> Iterator[None]:
    """Hold the lock for writing ``path``, after waiting for any process that holds it.

    The system releases the lock of a process that dies. After waiting, check again whether the result exists, since
    the other process may have written it. To rule out deadlocks, locks nest in one order only: a pair's folder first,
    then one file or folder of the store.

    Args:
        path: the file or folder to write; the lock file stands beside it.
        notify: called with one line of text before waiting.
    """
    with try_write_lock(path) as free:
        if free:
            yield
            return
    if notify is not None:
        notify(f"waiting for another process to finish {path}")
    with _lock_of(path):
        yield


@contextmanager
def try_write_lock(path: Path) -> Iterator[bool]:
    """Hold the lock for writing ``path`` and yield True, or yield False if another process holds it."""
    lock = _lock_of(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def lock_path(path: Path) -> Path:
    """Return the lock file for writing ``path``."""
    return path.with_name(f".{path.name}.lock")


def _lock_of(path: Path) -> filelock.FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(lock_path(path))
