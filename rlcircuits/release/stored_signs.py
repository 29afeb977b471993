"""The file of a pair's vital signs, ``signs.json`` in its folder of results.

It holds a hash of the answers beside it. A pair that is measured again keeps the file, whose signs are then of other
answers, and are not shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from rlcircuits.answers.recorded import SIDES
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import content_hash, file_hash, write_text_atomically
from rlcircuits.common.json_files import without_nan
from rlcircuits.common.versioned_files import read_versioned
from rlcircuits.release.result_files import answers_file
from rlcircuits.vital_signs.sign import Sign

__all__ = ["SIGNS_FILE", "PairSigns", "find_signs", "load_signs", "save_signs"]

SIGNS_FILE = "signs.json"
_FORMAT, _VERSION = "rlcircuits-signs", 2  # 1 lacks `answers`


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
    answers: str | None = None
    """Hash of both sides' answers that the signs are of; None where a file of them was not there."""


_ADAPTER = TypeAdapter(_File)


def save_signs(found: PairSigns, folder: Path) -> None:
    """Write a pair's signs to its folder of results; an older file is replaced atomically."""
    pair, answers = without_nan(asdict(found)), _answers_hash(folder)
    content = {"format": _FORMAT, "version": _VERSION, "pair": pair, "answers": answers}
    write_text_atomically(folder / SIGNS_FILE, json.dumps(content, indent=1, allow_nan=False))


def load_signs(folder: Path) -> PairSigns:
    """Return the signs in a pair's folder of results.

    Raises:
        RLCircuitsError: there is no such file, it is damaged or of another version, or the signs are of other answers
            than those beside it.
    """
    path = folder / SIGNS_FILE
    file = read_versioned(path, _ADAPTER, (_FORMAT, _VERSION), "signs", "measure the signs again")
    answers = _answers_hash(folder)
    if file.answers is not None and answers is not None and file.answers != answers:
        raise RLCircuitsError(
            f"{path}: stale, its signs are of other answers than those beside it, which were measured since; measure "
            "the signs again with rlcircuits signs, or remove the file"
        )
    return file.pair


def find_signs(folders: Sequence[Path]) -> tuple[tuple[PairSigns, ...], tuple[str, ...]]:
    """Return the signs in those of the folders that have some, and why others have a file that cannot be shown."""
    found, problems = [], []
    for folder in folders:
        if (folder / SIGNS_FILE).exists():
            try:
                found.append(load_signs(folder))
            except (RLCircuitsError, OSError) as error:
                problems.append(str(error))
    return tuple(found), tuple(problems)


def _answers_hash(folder: Path) -> str | None:
    """Return a hash of both sides' answers, or None if a file of them is not there."""
    files = [answers_file(folder, side) for side in SIDES]
    return content_hash([file_hash(file) for file in files]) if all(file.is_file() for file in files) else None
