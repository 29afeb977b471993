"""Make a folder for large temporary files, which is deleted whatever happens.

A process that is killed cannot delete anything. So each folder has a lock while its process lives, and the next process
that makes one deletes those whose lock is free.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, lock_path, try_write_lock

__all__ = ["check_room", "temporary_folder"]

_PREFIX = "rlcircuits-temporary-"


@contextmanager
def temporary_folder(notify: Notify) -> Iterator[Path]:
    """Yield an empty folder where the environment wants temporary files (``TMPDIR``); it is deleted afterwards.

    Args:
        notify: called with one line of text for each folder of a killed process that is deleted.

    Raises:
        RLCircuitsError: the folder cannot be made.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"{_PREFIX}{uuid4().hex}"
    except OSError as error:
        raise RLCircuitsError(
            f"no temporary folder can be made: {error.strerror or error}; set TMPDIR to a folder that can be written"
        ) from None
    _delete_leftovers(folder.parent, notify)
    with ExitStack() as lock:
        try:
            lock.enter_context(try_write_lock(folder))
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise RLCircuitsError(
                f"no temporary folder can be made in {folder.parent}: {error.strerror or error}; set TMPDIR to a "
                "folder that can be written"
            ) from None
        try:
            yield folder
        finally:
            _delete(folder)


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Raise RLCircuitsError if the disk of a temporary folder has too little room.

    Args:
        folder: the folder.
        wanted: the room that is needed, in bytes.
        what: what is written there, for the message.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise RLCircuitsError(
            f"{what} takes {wanted / 1e9:,.2f} GB in a temporary folder, and the disk of {folder.parent} has "
            f"{free / 1e9:,.2f} GB left; set TMPDIR to a folder on a disk with more room"
        )


def _delete_leftovers(place: Path, notify: Notify) -> None:
    """Delete the folders of processes that were killed; those of other users stay."""
    for left in place.glob(f"{_PREFIX}*"):
        try:
            with try_write_lock(left) as free:
                if not free:
                    continue
                _delete(left)
                if not left.exists():
                    notify(f"deleted {left}, which a run that was killed had left")
        except OSError:
            continue


def _delete(folder: Path) -> None:
    """Delete a folder and its lock file, whose lock is held."""
    shutil.rmtree(folder, ignore_errors=True)
    lock_path(folder).unlink(missing_ok=True)
