"""The files of one run in a cache of edge scores: its manifest, and a file of scores for each finished batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from pydantic import TypeAdapter, ValidationError

from rlcircuits.attribution.edge_attribution import empty_scores, fill_rows
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import content_hash
from rlcircuits.common.validation import describe_error
from rlcircuits.contraction.backends import BACKENDS
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence

FORMAT = "rlcircuits-scores"
VERSION = 3
"""To be raised whenever the same inputs may give other scores, or files another layout."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What is scored, with which weights and options; ``batches`` holds indices of the sequences."""

    format: str
    version: int
    key: str
    model: str
    fingerprint: str
    sequences: str
    granularity: str
    backend: str
    batch_tokens: int | None
    batches: tuple[tuple[int, ...], ...]
    scoring: dict[str, Any] | None = None
    """What the scores depend on beside the fields above; None for the default scores. ``how`` they were scored,
    ``metric``: what identifies its parameters, ``corrupted``: the hash of the corrupted sequences."""


MANIFEST_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def sequences_hash(sequences: Sequence[AnswerSequence]) -> str:
    """Return the hex sha256 of the distinct sequences' token ids, in their order, as the cache records it."""
    return content_hash([sequence.key_parts for sequence in dict.fromkeys(sequences)])


def fits_its_key(manifest: Manifest) -> bool:
    """Return whether a manifest has the key that its own fields give."""
    names = ("format", "version", "fingerprint", "sequences", "granularity", "batch_tokens")
    wanted = {name: getattr(manifest, name) for name in names}
    if manifest.scoring is not None:
        wanted["scoring"] = manifest.scoring
    # The key holds the backend that was asked for: None, or the one that was used.
    keys = [content_hash(wanted | {"backend": backend}) for backend in (None, manifest.backend)]
    return manifest.key in keys


def read_manifest(folder: Path, key: str, count: int) -> Manifest | None:
    """Return the manifest in the folder, or None if there is none yet."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = MANIFEST_ADAPTER.validate_json(file.read_bytes(), strict=True)
    except ValidationError as error:
        raise RLCircuitsError(
            f"{file}{describe_error(error)}; remove the folder, and its scores are computed again"
        ) from error
    if manifest.key != key:
        raise RLCircuitsError(f"{file}: these scores were computed with other settings; move the folder elsewhere")
    if manifest.backend not in BACKENDS:
        raise RLCircuitsError(
            f"{file}: field 'backend' is {truncated_repr(manifest.backend)}; it must be one of {', '.join(BACKENDS)}"
        )
    if sorted(index for batch in manifest.batches for index in batch) != list(range(count)):
        raise RLCircuitsError(
            f"{file}: field 'batches' does not hold each of the {count} sequences once; remove the folder, and its "
            f"scores are computed again"
        )
    return manifest


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest; that of default scores has no field ``scoring``, as before there were others."""
    path.write_bytes(MANIFEST_ADAPTER.dump_json(manifest, exclude={"scoring"} if manifest.scoring is None else None))


def finished(folder: Path) -> set[int]:
    """Return the indices of the sequences whose scores are in the folder, in undamaged files."""
    return {index for file in batch_files(folder) for index in indices_of(file) or []}


def batch_file(folder: Path, indices: Sequence[int]) -> Path:
    """Return the file of the scores of a batch."""
    return folder / f"batch-{indices[0]:06d}.safetensors"


def batch_files(folder: Path) -> list[Path]:
    """Return the run's files of scores, by their first sequence."""
    return sorted(folder.glob("batch-*.safetensors"))


def indices_of(file: Path) -> list[int] | None:
    """Return the indices of the sequences that a file has scores of, or None if the file is damaged."""
    try:
        # Opening the file already compares its header with its size.
        with safetensors.safe_open(str(file), framework="pt") as opened:
            return opened.get_tensor("indices").tolist()  # type: ignore[no-any-return]
    except (OSError, safetensors.SafetensorError):
        return None


def assembled(folder: Path, count: int) -> EdgeScores:
    """Return the scores of all batches in the folder, in the order of the sequences."""
    whole: EdgeScores | None = None
    for file in batch_files(folder):
        part, indices = EdgeScores.load(file), indices_of(file) or []
        if whole is None:
            whole = empty_scores(count, part)
        fits = part.graph.same_as(whole.graph) and part.how == whole.how
        if not fits or len(part) != len(indices) or not max(indices) < count:
            raise RLCircuitsError(f"{file} is of another run than the other files in its folder; remove the folder")
        fill_rows(whole, indices, part)
    assert whole is not None, "a run has at least one batch"
    return whole


def distinct_rows(rows: Sequence[Hashable]) -> list[int]:
    """Return for each entry its number among the distinct ones, which count from 0 in the order of their first use."""
    number: dict[Hashable, int] = {}
    return [number.setdefault(row, len(number)) for row in rows]
