"""The file of a pair's vital signs, ``signs.json`` in its folder of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import write_text_atomically
from rlcircuits.common.input_files import read_text
from rlcircuits.common.json_files import without_nan
from rlcircuits.common.validation import describe_error
from rlcircuits.vital_signs.sign import Sign

__all__ = ["SIGNS_FILE", "PairSigns", "find_signs", "load_signs", "save_signs"]

SIGNS_FILE = "signs.json"
_FORMAT, _VERSION = "rlcircuits-signs", 1


@dataclass(frozen=True)
class PairSigns:
    """The vital signs of a pair."""

    name: str
    """The pair's name; of a supervised control, with the pair's folder before it."""
    signs: tuple[Sign, ...]
    noise_draws: int
    """The noise draws whose answers the run's store has."""


@dataclass(frozen=True)
class _File:
    format: str
    version: int
    pair: PairSigns


_ADAPTER = TypeAdapter(_File)


def save_signs(found: PairSigns, folder: Path) -> None:
    """Write a pair's signs to its folder of results; an older file is replaced atomically."""
    content = {"format": _FORMAT, "version": _VERSION, "pair": without_nan(asdict(found))}
    write_text_atomically(folder / SIGNS_FILE, json.dumps(content, indent=1, allow_nan=False))


def load_signs(folder: Path) -> PairSigns:
    """Return the signs in a pair's folder of results.

    Raises:
        RLCircuitsError: there is no such file, or it is damaged or of another version.
    """
    path = folder / SIGNS_FILE
    text = read_text(path, "signs")
    try:
        file = _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise RLCircuitsError(f"{path}: damaged: {describe_error(error)}; measure the signs again") from None
    if (file.format, file.version) != (_FORMAT, _VERSION):
        raise RLCircuitsError(
            f"{path}: found {file.format!r}, version {file.version}; this version of rlcircuits reads {_FORMAT!r}, "
            f"version {_VERSION}; measure the signs again"
        )
    return file.pair


def find_signs(folders: Sequence[Path]) -> dict[Path, PairSigns]:
    """Return the signs in those of the folders that have some, by folder."""
    return {folder: load_signs(folder) for folder in folders if (folder / SIGNS_FILE).exists()}
