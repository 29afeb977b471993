"""Write a folder that appears only when it is complete, and remove what killed runs left of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import (
    Notify,
    ensure_writable_folder,
    fsync_folder,
    is_partial,
    lock_path,
    partial_path,
    try_write_lock,
)

__all__ = ["check_new_folder", "new_folder"]

_LOCKED = "folder"
"""What a run locks in the folder that it fills, so that another run sees whether the process is still there."""


def check_new_folder(folder: str | Path, option: str) -> Path:
    """Check before any work that a folder can be made under this name, and make nothing.

    Args:
        folder: a name that does not exist yet, or an empty folder.
        option: what errors call the option that gave the folder.

    Raises:
        RLCircuitsError: there are files in it, it is a file or a link, or it cannot be replaced, as the working folder
            and a mounted one cannot.
    """
    folder = Path(folder)
    try:
        if folder.is_symlink():
            raise RLCircuitsError(f"{option}: {folder} is a link; name the folder that it leads to, or a new one")
        if not folder.exists():
            above = next(parent for parent in folder.absolute().parents if parent.exists())
            if not above.is_dir():
                raise RLCircuitsError(f"{option}: {folder} cannot be written: {above} is a file; name another folder")
            return folder
        if not folder.is_dir():
            raise RLCircuitsError(f"{option}: {folder} is a file; the name of a new folder is wanted")
        if found := min((path.name for path in folder.iterdir()), default=None):
            raise RLCircuitsError(
                f"{option}: {folder} is not empty, it holds {found}; name a new folder, or empty this one"
            )
        here = folder.samefile(Path.cwd())
        if here or folder.absolute().is_mount():
            what = "the working folder" if here else "a mounted folder"
            raise RLCircuitsError(f"{option}: {folder} is {what}, which cannot be replaced; name a new folder in it")
    except OSError as error:  # a name too long, or a folder that may not be read
        raise _cannot_write(folder, option, error) from None
    return folder


@contextmanager
def new_folder(folder: str | Path, option: str, notify: Notify | None = None) -> Iterator[Path]:
    """Yield an empty folder to fill, which gets the name ``folder`` when the block ends without an exception.

    What earlier runs of the same name left, because they were killed, is removed first.

    Args:
        folder: a name that does not exist yet, or an empty folder.
        option: what errors call the option that gave the folder.
        notify: called with one line of text if something was removed.

    Raises:
        RLCircuitsError: as :func:`check_new_folder`; nothing can be written there; or another process is writing it.
    """
    folder = check_new_folder(folder, option).absolute()
    ensure_writable_folder(folder.parent, option)
    _remove_leftovers(folder, option, notify)
    partial = partial_path(folder)
    try:
        partial.mkdir()
    except OSError as error:
        raise _cannot_write(folder, option, error) from None
    try:
        with try_write_lock(partial / _LOCKED):
            yield partial
        lock_path(partial / _LOCKED).unlink(missing_ok=True)
        _rename(partial, check_new_folder(folder, option), option)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, folder: Path, option: str) -> None:
    try:
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise _cannot_write(folder, option, error) from None


def _remove_leftovers(folder: Path, option: str, notify: Notify | None) -> None:
    try:
        found = [path for path in folder.parent.iterdir() if is_partial(path, folder) and path.is_dir()]
    except OSError:  # a folder may be written and not be listed
        return
    for left in found:
        with try_write_lock(left / _LOCKED) as free:
            if not free:
                raise RLCircuitsError(
                    f"{option}: another process is writing {folder}; wait for it, or name another folder"
                )
        shutil.rmtree(left, ignore_errors=True)
        if notify is not None:
            notify(f"removed {left}, which a run that was killed had left")


def _cannot_write(folder: Path, option: str, error: OSError) -> RLCircuitsError:
    return RLCircuitsError(f"{option}: {folder} cannot be written: {error.strerror or error}; name another folder")
