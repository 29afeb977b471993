"""Read JSON files that say in their fields ``format`` and ``version`` what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.input_files import read_text
from rlcircuits.common.validation import describe_error

__all__ = ["read_versioned"]


class _Versioned(Protocol):
    @property
    def format(self) -> str: ...

    @property
    def version(self) -> int: ...


_File = TypeVar("_File", bound=_Versioned)


def read_versioned(path: Path, adapter: TypeAdapter[_File], known: tuple[str, int], what: str, remedy: str) -> _File:
    """Return the content of a file.

    Args:
        path: the file.
        adapter: of the content.
        known: the format and the version that can be read.
        what: what the file is, in words.
        remedy: how to get a readable one, in words.

    Raises:
        RLCircuitsError: there is no such file, or it is damaged or of another version.
    """
    text = read_text(path, what)
    try:
        file = adapter.validate_json(text)
    except ValidationError as error:
        raise RLCircuitsError(f"{path}: damaged{describe_error(error, before=': field')}; {remedy}") from None
    if (file.format, file.version) != known:
        raise RLCircuitsError(
            f"{path}: found {file.format!r}, version {file.version}; this version of rlcircuits reads {known[0]!r}, "
            f"version {known[1]}; {remedy}"
        )
    return file
