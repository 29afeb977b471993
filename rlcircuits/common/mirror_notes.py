"""What a mirror knows of each file that is the same here and elsewhere: a small file for each, beside the mirror."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from uuid import uuid4

from rlcircuits.common.remote_folder import RemoteFile

__all__ = ["LocalFile", "MirrorNotes"]


@dataclass(frozen=True)
class LocalFile:
    """What tells a file from one that was written in its place since."""

    size: int
    mtime_ns: int
    inode: int
    """Another one for a file that was renamed to this name within the clock's resolution."""

    @classmethod
    def of(cls, path: Path) -> LocalFile | None:
        """Return it of a file as it is now; None if there is none."""
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class MirrorNotes:
    """The files that were the same here and elsewhere when they were last looked at.

    Processes of one machine share the folder. A note that is lost costs a second transfer and nothing else, so that
    notes are not synced to disk.

    Args:
        folder: where the notes are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[LocalFile, RemoteFile]] = {}

    def local(self, name: str, now: LocalFile | None) -> bool:
        """Return whether a file is still as it was when it was noted."""
        if now is None:
            return False
        known = self._known.get(name)
        if known is None or known[0] != now:
            known = self._read(name)  # another process may have noted it since
        return known is not None and known[0] == now

    def remote(self, name: str) -> RemoteFile | None:
        """Return what was elsewhere when a file was noted; None if it never was."""
        known = self._known.get(name) or self._read(name)
        return None if known is None else known[1]

    def note(self, name: str, here: LocalFile, there: RemoteFile) -> None:
        """Note that a file is the same here and elsewhere."""
        self._known[name] = here, there
        path = self._folder / name
        partial = self._folder / f".{uuid4().hex}.tmp"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps([*astuple(here), *astuple(there)]), encoding="utf-8")
            os.replace(partial, path)
        except OSError:  # such as a full disk, which what matters says itself
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Remove the note of a file, which is no longer elsewhere."""
        self._known.pop(name, None)
        with suppress(OSError):
            (self._folder / name).unlink()

    def _read(self, name: str) -> tuple[LocalFile, RemoteFile] | None:
        try:
            size, mtime_ns, inode, remote_size, tag = json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # never noted, or cut short as the machine went down
            return None
        self._known[name] = LocalFile(size, mtime_ns, inode), RemoteFile(remote_size, tag)
        return self._known[name]
