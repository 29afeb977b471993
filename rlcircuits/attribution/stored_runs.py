"""The finished and damaged runs in a cache of edge scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlcircuits.attribution.run_files import (
    FORMAT,
    MANIFEST,
    MANIFEST_ADAPTER,
    VERSION,
    assembled,
    batch_files,
    distinct_rows,
    finished,
    fits_its_key,
    indices_of,
)
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.validation import describe_error
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.sequences import AnswerSequence

__all__ = ["DamagedScores", "StoredScores", "read_store", "stored_scores"]


@dataclass(frozen=True)
class StoredScores:
    """All scores of one run in a cache: what was scored, and with which weights."""

    folder: Path
    model: str
    """Name of the source that was scored."""
    fingerprint: str
    """Fingerprint of that source."""
    sequences: str
    """What :func:`sequences_hash` gives for the sequences."""
    granularity: str
    count: int
    """Number of distinct sequences."""
    scoring: Mapping[str, Any]
    """What the scores depend on beside these; empty for the default scores."""

    @property
    def how(self) -> HowScored:
        """How they were scored."""
        return HowScored.of_changed(self.scoring.get("how", {}))

    def load(self, sequences: Sequence[AnswerSequence]) -> EdgeScores:
        """Return the scores of the sequences, in their order.

        Args:
            sequences: what was scored; their hash is that of the run.
        """
        return assembled(self.folder, self.count).of_rows(distinct_rows(sequences))


@dataclass(frozen=True)
class DamagedScores:
    """A run in a cache whose scores cannot all be read."""

    words: str
    """The file or folder, and what is wrong with it."""
    fingerprint: str | None = None
    """Of the source that was scored; None if the manifest does not tell."""
    sequences: str | None = None
    """What :func:`sequences_hash` gives for the sequences; None if the manifest does not tell."""


def stored_scores(store: Path) -> tuple[StoredScores, ...]:
    """Return the finished runs of a cache, by the names of their folders.

    Left out are unfinished runs, those of another version, and those that are damaged; see :func:`read_store`.
    """
    return tuple(run for run in read_store(store) if isinstance(run, StoredScores))


def read_store(store: Path) -> tuple[StoredScores | DamagedScores, ...]:
    """Return every run of this version in a cache, by the names of their folders.

    A run whose manifest was changed after it was written counts as damaged, and so does an unfinished one: nothing
    tells it from one whose files were removed.

    Raises:
        RLCircuitsError: the folder cannot be read.
    """
    try:
        folders = sorted(path for path in store.iterdir() if path.is_dir())
    except OSError as error:
        raise RLCircuitsError(f"{store}: cannot be read as a store: {error.strerror or error}") from None
    return tuple(run for folder in folders if (run := _read_run(folder)) is not None)


def _read_run(folder: Path) -> StoredScores | DamagedScores | None:
    """Return the run in a folder; None for one of another version, and for a folder without a manifest."""
    file = folder / MANIFEST
    try:
        content = file.read_bytes()
        manifest = MANIFEST_ADAPTER.validate_json(content, strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        return DamagedScores(f"{file}: cannot be read: {error.strerror or error}")
    except ValidationError as error:
        return None if _is_of_another_version(content) else DamagedScores(f"{file}{describe_error(error)}")
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        return None
    if not fits_its_key(manifest):
        return DamagedScores(f"{file}: it was changed after it was written: its fields do not give its key")
    names = manifest.model, manifest.fingerprint, manifest.sequences, manifest.granularity
    count = sum(map(len, manifest.batches))
    if len(done := finished(folder)) == count:
        return StoredScores(folder, *names, count, manifest.scoring or {})
    unreadable = next((each for each in batch_files(folder) if indices_of(each) is None), None)
    if unreadable is None:
        words = f"{folder}: it has scores of {len(done)} of {count} sequences; the run was killed or files removed"
    else:
        words = f"{unreadable}: cannot be read as scores: {_why_unreadable(unreadable)}"
    return DamagedScores(words, manifest.fingerprint, manifest.sequences)


def _is_of_another_version(content: bytes) -> bool:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT and found.get("version") not in (VERSION, None)


def _why_unreadable(file: Path) -> str:
    try:
        file.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return "it is damaged or cut short"
