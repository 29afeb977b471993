"""Reading files from users: UTF-8 with or without a byte order mark, with errors that name the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["check_readable", "decode_utf8", "read_file", "read_lines", "read_text"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Pipes that the shell or a parent process has opened, such as `<(command)`. Unlike a named pipe, they end.
_OPENED = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))


def read_file(file: str | Path, what: str) -> bytes:
    """Return a file's bytes without a byte order mark.

    Args:
        file: the file.
        what: what errors call the content.

    Raises:
        RLCircuitsError: naming the file, if it is missing or unreadable, or is a folder, or a pipe or device, which may
            never end.
    """
    file = Path(file).expanduser()
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode) and not str(file).startswith(_OPENED):
            kind = next((kind for holds, kind in _KINDS if holds(mode)), "a device")
            raise RLCircuitsError(f"{file}: cannot be read as {what}: it is {kind}; a file is wanted")
        return file.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    except OSError as error:
        raise RLCircuitsError(f"{file}: cannot be read as {what}: {error.strerror or error}") from None


def check_readable(path: Path) -> None:
    """Check that a file can be opened, or a folder be listed, before a library is given it.

    Some libraries say of a file that may not be read that it is missing, and a glob passes over it.

    Raises:
        RLCircuitsError: naming the file or folder, and the system's reason.
    """
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            os.stat(os.path.join(path, "."))  # whether it may be entered
        else:
            with path.open("rb"):
                pass
    except PermissionError as error:
        raise RLCircuitsError(
            f"{path} cannot be read: {error.strerror or error}; give yourself the right to read it"
        ) from None
    except OSError as error:
        raise RLCircuitsError(f"{path} cannot be read: {error.strerror or error}") from None


def read_text(file: str | Path, what: str) -> str:
    """Return a file's text. Raises RLCircuitsError as :func:`read_file` does, and if it is not UTF-8."""
    return decode_utf8(read_file(file, what), str(file))


def read_lines(file: str | Path, what: str) -> Iterator[tuple[str, str]]:
    """Yield the place of each line, as ``file:number``, and its text.

    Raises:
        RLCircuitsError: as :func:`read_file` does, and for an empty file and a line that is not UTF-8.
    """
    data = read_file(file, what)
    if not data.strip():
        raise RLCircuitsError(f"{file}: it is empty; {what} are wanted, one JSON object a line")
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), start=1):
        place = f"{file}:{number}"
        yield place, decode_utf8(line, place)


def decode_utf8(data: bytes, place: str) -> str:
    """Return bytes as text. Raises RLCircuitsError, whose text begins with ``place``, if they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RLCircuitsError(
            f"{place}: it is not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None
