"""Files that outlive a killed process: written whole or not at all, by one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

import filelock

from rlcircuits.common.errors import RLCircuitsError

Notify = Callable[[str], None]
"""Is told in one line what a long step does or waits for."""

COMPARISON_FILE = "comparison.json"
"""The file of a finished pair's result, in the pair's own folder of the output folder."""

KEY_DIGITS = 12
"""How many digits of a key are in a name; the whole key is in the file and compared."""

LONGEST_NAME = 120
"""Bytes of a name, to which a key and an ending are added; file systems take 255."""


def content_hash(parts: Any) -> str:
    """The hex sha256 of anything made of JSON's kinds; the order of a mapping's keys does not count."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cache_path(folder: Path, words: tuple[str, ...], key: str, suffix: str = "") -> Path:
    """Where work with this key is kept: what is there already under any name, else a new readable one."""
    digits = key[:KEY_DIGITS]
    found = sorted(folder.glob(f"*-{digits}{suffix}"))
    if found:
        return found[0]
    return folder / f"{safe_file_name(*words)}-{digits}{suffix}"


def safe_file_name(*words: str) -> str:
    """The words as a name that a file can have everywhere, cut where it would be too long."""
    readable = "-".join(re.sub(r"[^\w.+]+", "-", word).strip("-.") for word in words)
    return readable.encode()[:LONGEST_NAME].decode(errors="ignore")


def short_name(source: str) -> str:
    """The last two parts of a path or hub id, by which people know a checkpoint."""
    return "-".join(part for part in Path(source).parts[-2:] if part not in ("/", ".", ".."))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file beside ``path`` and put it in its place once it is safely on disk."""
    # A name of its own, so that two processes do not write into one file.
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text to a file, as :func:`write_atomically` does."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def ensure_writable_folder(folder: str | Path, option: str) -> Path:
    """Make a folder for results and make sure, before any work, that files can be written in it.

    Raises RLCircuitsError naming the ``option`` that gave the folder.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions do not tell: root has them all, and a file system may be mounted to be read only.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise RLCircuitsError(f"{option}: no file can be written in the folder {folder}: {reason}") from None
    return folder


def ensure_output_folder(folder: str | Path, option: str) -> Path:
    """Make an output folder ready as :func:`ensure_writable_folder` does, unless it holds results.

    Then all that is to be done may be to read them, which needs no place to write; whoever writes finds out.
    """
    folder = Path(folder)
    return folder if any(folder.glob(f"*/{COMPARISON_FILE}")) else ensure_writable_folder(folder, option)


def ensure_writable_file(file: str | Path, option: str) -> Path:
    """Make sure, before any work, that a file of results can be written; its folder is made.

    Raises RLCircuitsError naming the ``option`` that gave the file.
    """
    file = Path(file)
    if file.is_dir():
        raise RLCircuitsError(f"{option}: {file} is a folder; a file's name is wanted")
    if file.exists() and not file.is_file():  # /dev/null would be replaced by a file
        raise RLCircuitsError(f"{option}: {file} is a pipe or a device; a file's name is wanted")
    ensure_writable_folder(file.parent, option)
    return file


def fsync_folder(folder: Path) -> None:
    """Make sure that the names in a folder, and not only the files' contents, are on disk."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def write_lock(path: Path, notify: Notify | None = None) -> Iterator[None]:
    """Hold the right to write ``path``; the system takes it back from a process that dies.

    Waits for a process that holds it, which ``notify`` is told in one line. What that process finished is there
    afterwards, so look for it again before making it. Locks are nested in one order only, so that no two
    processes wait for each other: a pair's folder first, then one file or folder of the store.
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
    """Hold the right to write ``path`` and give True, or give False if another process holds it."""
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


def _lock_of(path: Path) -> filelock.FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path.with_name(f".{path.name}.lock"))
