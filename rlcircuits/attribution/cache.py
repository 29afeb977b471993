"""Edge scores kept batch by batch, so that a killed attribution goes on where it was.

A store's folder has one folder a run: ``manifest.json``, written first, says what is scored and in which
batches; each finished batch is a safetensors file of its own, put in its place only once it is whole. Since the
batches are those of the manifest, a resumed run computes each score as an uninterrupted one would have.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import torch
from pydantic import TypeAdapter, ValidationError

from rlcircuits.attribution.edge_attribution import attribute, attribute_batches, graph_of, plan_attribution
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import Notify, cache_path, content_hash, short_name, write_atomically, write_lock
from rlcircuits.common.progress import progress_bar
from rlcircuits.common.validation import describe_error
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.graph.edge_graph import check_granularity
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence

__all__ = ["attribute_stored"]

FORMAT = "rlcircuits-scores"
VERSION = 3
"""Changes whenever the same inputs may give other scores, or another layout on disk."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class _Manifest:
    """What is scored, of which weights and how; `batches` are indices of the sequences."""

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


_MANIFEST: TypeAdapter[_Manifest] = TypeAdapter(_Manifest)


@validate_arguments
def attribute_stored(
    model: Source | Checkpoint,
    sequences: Sequence[AnswerSequence],
    granularity: str = "sublayer",
    *,
    batch_tokens: int | None = None,
    backend: str | None = None,
    recompute: bool = False,
    progress: bool = False,
    store: str | Path | None = None,
    notify: Notify | None = None,
) -> EdgeScores:
    """Score every edge for every sequence, as :func:`~rlcircuits.attribute` does, and keep the scores.

    store: a folder. Each batch's scores are kept in it as they are made, under a key of the source's
    fingerprint, the sequences and the options. A run that was killed goes on with the batches it lacks; one
    that is complete loads no model; one that another process is making is waited for, which ``notify`` is told in
    one line. Without a store nothing is kept.

    Raises RLCircuitsError for what ``attribute`` refuses, a store with a checkpoint that is already loaded (it
    has no fingerprint), and damaged files.
    """
    if store is None:
        checkpoint = model if isinstance(model, Checkpoint) else model.load()
        return attribute(
            checkpoint, sequences, granularity, batch_tokens, backend, recompute=recompute, progress=progress
        )
    if isinstance(model, Checkpoint):
        raise RLCircuitsError(
            f"a store knows scores by their source's fingerprint, and {model.name} is a loaded checkpoint; "
            "give a source, such as CheckpointSource(folder)"
        )
    check_granularity(granularity)
    if not sequences:
        raise RLCircuitsError("there are no sequences to score")
    wanted: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": model.fingerprint(),
        "sequences": content_hash([[s.prompt_ids, s.answer_ids] for s in sequences]),
        "granularity": granularity,
        "batch_tokens": batch_tokens,
    }
    key = content_hash(wanted | {"backend": backend})
    folder = cache_path(Path(store), (short_name(model.name), granularity), key)
    if len(_done(folder)) < len(sequences):
        with write_lock(folder, notify):
            if len(_done(folder)) < len(sequences):  # another process may have made them meanwhile
                folder.mkdir(exist_ok=True)
                _remove_damaged(folder)
                checkpoint = model.load()
                manifest = _read_manifest(folder, key, len(sequences))
                if manifest is None:
                    plan = tuple(plan_attribution(checkpoint, sequences, batch_tokens))
                    chosen = choose_backend(backend, next(checkpoint.model.parameters()))
                    manifest = _Manifest(**wanted, key=key, model=model.name, backend=chosen, batches=plan)
                    write_atomically(folder / MANIFEST, partial(_write_manifest, manifest))
                _make_rest(checkpoint, sequences, manifest, folder, recompute, progress)
    return _assembled(folder, len(sequences))


def _make_rest(
    checkpoint: Checkpoint,
    sequences: Sequence[AnswerSequence],
    manifest: _Manifest,
    folder: Path,
    recompute: bool,
    progress: bool,
) -> None:
    """Make and keep the batches of the manifest that are not in the folder yet."""
    done = _done(folder)
    # A batch halved for lack of memory may be there in part.
    rest = [tuple(index for index in batch if index not in done) for batch in manifest.batches]
    graph = graph_of(checkpoint, manifest.granularity)
    left = [batch for batch in rest if batch]
    batches = attribute_batches(checkpoint, sequences, left, graph, manifest.backend, recompute=recompute)
    with closing(batches), progress_bar(progress) as bar:
        task = bar.add_task("attribution", total=len(sequences), completed=len(done))
        for indices, values, losses in batches:
            scores = EdgeScores(values, losses, graph, manifest.backend)
            places = {"indices": torch.tensor(indices)}
            write_atomically(folder / f"batch-{indices[0]:06d}.safetensors", partial(scores.save, extra=places))
            bar.advance(task, len(indices))


def _done(folder: Path) -> set[int]:
    """The sequences whose scores are in the folder, in whole files."""
    return {index for file in _batch_files(folder) for index in _indices(file) or []}


def _remove_damaged(folder: Path) -> None:
    """Remove files that cannot be read, such as one that was cut short, so that their batches are made again."""
    for file in _batch_files(folder):
        if _indices(file) is None:
            warnings.warn(f"{file} is damaged; its scores are made again", stacklevel=5)
            file.unlink()


def _assembled(folder: Path, count: int) -> EdgeScores:
    """The scores of all batches in the folder, in the sequences' order."""
    whole: EdgeScores | None = None
    for file in _batch_files(folder):
        part, indices = EdgeScores.load(file), _indices(file) or []
        if whole is None:
            values = torch.zeros(count, *part.graph.mask.shape, dtype=torch.float32)
            whole = EdgeScores(values, torch.zeros(count, dtype=torch.float32), part.graph, part.backend)
        if not part.graph.same_as(whole.graph) or len(part) != len(indices) or not max(indices) < count:
            raise RLCircuitsError(f"{file} is not of one run with the other files in its folder; remove the folder")
        whole.values[indices] = part.values
        whole.loss[indices] = part.loss
    assert whole is not None, "a run has at least one batch"
    return whole


def _batch_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("batch-*.safetensors"))


def _indices(file: Path) -> list[int] | None:
    """Which sequences a file's scores are of; None where it is damaged."""
    try:
        # Opening compares the header with the file's size.
        with safetensors.safe_open(str(file), framework="pt") as opened:
            return opened.get_tensor("indices").tolist()  # type: ignore[no-any-return]
    except (OSError, safetensors.SafetensorError):
        return None


def _read_manifest(folder: Path, key: str, count: int) -> _Manifest | None:
    """The manifest in the folder; None where there is none yet."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = _MANIFEST.validate_json(file.read_bytes(), strict=True)
    except ValidationError as error:
        raise RLCircuitsError(
            f"{file}{describe_error(error)}; remove the folder, and its scores are made again"
        ) from error
    if manifest.key != key:
        raise RLCircuitsError(f"{file}: these scores were made for other settings; move the folder away")
    if manifest.backend not in BACKENDS:
        raise RLCircuitsError(
            f"{file}: field 'backend' is {truncated_repr(manifest.backend)}; it must be one of {', '.join(BACKENDS)}"
        )
    if sorted(index for batch in manifest.batches for index in batch) != list(range(count)):
        raise RLCircuitsError(
            f"{file}: field 'batches' does not hold each of the {count} sequences once; remove the folder, and its "
            f"scores are made again"
        )
    return manifest


def _write_manifest(manifest: _Manifest, path: Path) -> None:
    path.write_bytes(_MANIFEST.dump_json(manifest))
