"""A cache of edge scores, written batch by batch, so that a killed attribution resumes where it stopped.

The cache's folder has one folder for each run. ``manifest.json``, written first, says what is scored and in which
batches. Each finished batch is a safetensors file, written atomically. A resumed run takes its batches from the
manifest, so that it computes each score exactly as an uninterrupted run does.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import torch
from pydantic import TypeAdapter, ValidationError

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.attribution.corrupted import check_number_of_corrupted
from rlcircuits.attribution.edge_attribution import (
    attribute,
    attribute_batches,
    empty_scores,
    fill_rows,
    graph_of,
)
from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget
from rlcircuits.attribution.options import AttributionOptions, Estimator
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import CROSS_ENTROPY, EAP, Method, Points
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.files import Notify, cache_path, content_hash, short_name, write_atomically, write_lock
from rlcircuits.common.progress import progress_bar
from rlcircuits.common.validation import describe_error
from rlcircuits.contraction.backends import BACKENDS, choose_backend
from rlcircuits.graph.edge_graph import check_granularity
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.how_scored import HowScored
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.models.backward_rules import BackwardRules

__all__ = ["DamagedScores", "StoredScores", "attribute_stored", "read_store", "sequences_hash", "stored_scores"]

FORMAT = "rlcircuits-scores"
VERSION = 3
"""To be raised whenever the same inputs may give other scores, or files another layout."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class _Manifest:
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


_MANIFEST: TypeAdapter[_Manifest] = TypeAdapter(_Manifest)


@validate_arguments
def attribute_stored(
    model: Source | Checkpoint,
    sequences: Sequence[AnswerSequence],
    granularity: str = defaults.GRANULARITY,
    *,
    metric: str | AttributedMetric | MetricFunction = CROSS_ENTROPY,
    method: Method = EAP,
    steps: int = defaults.STEPS,
    points: Points = "midpoint",
    rules: Sequence[str] = (),
    corrupted: Sequence[AnswerSequence] | None = None,
    batch_tokens: int | None = None,
    backend: str | None = None,
    recompute: bool = False,
    progress: bool = False,
    store: str | Path | None = None,
    notify: Notify | None = None,
) -> EdgeScores:
    """Score every edge for every sequence, as :func:`~rlcircuits.attribute` does, and cache the scores on disk.

    The cache key is the source's fingerprint, the sequences and the options that change scores. A run that was killed
    resumes with the batches that are missing. A complete run loads no model. While another process makes the same
    scores, this one waits for it.

    A sequence that occurs several times, as short answers to one question often do, is scored once (with corrupted
    sequences: if its corrupted one is the same too).

    Args:
        model: a source of a checkpoint, such as ``CheckpointSource``. A loaded ``Checkpoint`` has no fingerprint and
            is allowed only without a store.
        sequences: as for ``attribute``.
        granularity: as for ``attribute``.
        metric: as for ``attribute``. With a store, not a function of your own, which has no key.
        method: as for ``attribute``.
        steps: as for ``attribute``.
        points: as for ``attribute``.
        rules: as for ``attribute``.
        corrupted: as for ``attribute``.
        batch_tokens: as for ``attribute``.
        backend: as for ``attribute``.
        recompute: as for ``attribute``.
        progress: show a progress bar on stderr.
        store: the cache's folder. Without it nothing is stored.
        notify: called with one line of text when this process has to wait for another.

    Returns:
        The scores and losses in the order of ``sequences``, float32 on the CPU.

    Raises:
        RLCircuitsError: whatever ``attribute`` raises; a store together with a loaded checkpoint or with a metric that
            has no key; no sequences; damaged files in the store.
    """
    estimator = Estimator(make_metric(metric), method, steps, points, BackwardRules.named(tuple(rules)))
    metric = estimator.metric
    estimator.check_corrupted(corrupted is not None)
    if corrupted is not None:
        check_number_of_corrupted(sequences, corrupted)
    others: Sequence[AnswerSequence | None] = [None] * len(sequences) if corrupted is None else corrupted
    pairs = zip(sequences, others, strict=True)
    row = _distinct_rows([(*pair, metric.of_row(place)) for place, pair in enumerate(pairs)])
    if len(set(row)) < len(row):
        places = [row.index(number) for number in range(max(row) + 1)]
        found = attribute_stored(
            model,
            [sequences[place] for place in places],
            granularity,
            metric=metric.of_rows(places),
            method=method,
            steps=steps,
            points=points,
            rules=rules,
            corrupted=None if corrupted is None else [corrupted[place] for place in places],
            batch_tokens=batch_tokens,
            backend=backend,
            recompute=recompute,
            progress=progress,
            store=store,
            notify=notify,
        )
        return found.of_rows(row)
    if store is None:
        checkpoint = model if isinstance(model, Checkpoint) else model.load()
        return attribute(
            checkpoint,
            sequences,
            granularity,
            batch_tokens,
            backend,
            metric=metric,
            method=method,
            steps=steps,
            points=points,
            rules=rules,
            corrupted=corrupted,
            recompute=recompute,
            progress=progress,
        )
    if isinstance(model, Checkpoint):
        raise RLCircuitsError(
            f"a store finds scores by their source's fingerprint, and {model.name} is a loaded checkpoint; "
            "give a source, such as CheckpointSource(folder)"
        )
    check_granularity(granularity)
    if not sequences:
        raise RLCircuitsError("there are no sequences to score")
    wanted: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": model.fingerprint(),
        "sequences": sequences_hash(sequences),
        "granularity": granularity,
        "batch_tokens": batch_tokens,
        **_scoring(estimator, corrupted),
    }
    key = content_hash(wanted | {"backend": backend})
    folder = cache_path(Path(store), (short_name(model.name), granularity), key)
    if len(_finished(folder)) < len(sequences):
        with write_lock(folder, notify):
            if len(_finished(folder)) < len(sequences):  # another process may have finished them meanwhile
                folder.mkdir(exist_ok=True)
                _remove_damaged(folder)
                checkpoint = model.load()
                manifest = _read_manifest(folder, key, len(sequences))
                budget = MemoryBudget(checkpoint, sequences, batch_tokens)
                if manifest is None:
                    batches = tuple(budget.plan())
                    chosen = choose_backend(backend, next(checkpoint.model.parameters()))
                    manifest = _Manifest(**wanted, key=key, model=model.name, backend=chosen, batches=batches)
                    write_atomically(folder / MANIFEST, partial(_write_manifest, manifest))
                options = AttributionOptions(
                    graph_of(checkpoint, manifest.granularity),
                    manifest.backend,
                    corrupted,
                    recompute=recompute,
                    estimator=estimator,
                )
                _score_missing(checkpoint, budget, manifest.batches, options, folder, progress)
    return _assembled(folder, len(sequences))


def _scoring(estimator: Estimator, corrupted: Sequence[AnswerSequence] | None) -> dict[str, Any]:
    """Return the manifest's field ``scoring``; nothing for the default scores, whose keys and files stay as they were.

    Raises:
        RLCircuitsError: the metric has no key.
    """
    how = estimator.how(corrupted is not None).changed
    if not how:
        return {}
    ids = None if corrupted is None else content_hash([[each.prompt_ids, each.answer_ids] for each in corrupted])
    return {"scoring": {"how": how, "metric": estimator.metric.key(), "corrupted": ids}}


def sequences_hash(sequences: Sequence[AnswerSequence]) -> str:
    """Return the hex sha256 of the distinct sequences' token ids, in their order, as the cache records it."""
    return content_hash([[sequence.prompt_ids, sequence.answer_ids] for sequence in dict.fromkeys(sequences)])


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
        return _assembled(self.folder, self.count).of_rows(_distinct_rows(sequences))


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
        manifest = _MANIFEST.validate_json(content, strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        return DamagedScores(f"{file}: cannot be read: {error.strerror or error}")
    except ValidationError as error:
        return None if _is_of_another_version(content) else DamagedScores(f"{file}{describe_error(error)}")
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        return None
    if not _fits_its_key(manifest):
        return DamagedScores(f"{file}: it was changed after it was written: its fields do not give its key")
    names = manifest.model, manifest.fingerprint, manifest.sequences, manifest.granularity
    count = sum(map(len, manifest.batches))
    if len(finished := _finished(folder)) == count:
        return StoredScores(folder, *names, count, manifest.scoring or {})
    unreadable = next((each for each in _batch_files(folder) if _indices(each) is None), None)
    if unreadable is None:
        words = f"{folder}: it has scores of {len(finished)} of {count} sequences; the run was killed or files removed"
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


def _fits_its_key(manifest: _Manifest) -> bool:
    """Return whether a manifest has the key that its own fields give."""
    names = ("format", "version", "fingerprint", "sequences", "granularity", "batch_tokens")
    wanted = {name: getattr(manifest, name) for name in names}
    if manifest.scoring is not None:
        wanted["scoring"] = manifest.scoring
    # The key holds the backend that was asked for: None, or the one that was used.
    keys = [content_hash(wanted | {"backend": backend}) for backend in (None, manifest.backend)]
    return manifest.key in keys


def _score_missing(
    checkpoint: Checkpoint,
    budget: MemoryBudget,
    batches: Sequence[BatchIndices],
    options: AttributionOptions,
    folder: Path,
    progress: bool,
) -> None:
    """Score and store the sequences of ``batches`` that are not in the folder yet."""
    done = _finished(folder)
    # A batch that ran out of memory was split, and a part of it may be there.
    missing = [tuple(index for index in batch if index not in done) for batch in batches]
    results = attribute_batches(checkpoint, budget, [batch for batch in missing if batch], options)
    with closing(results), progress_bar(progress) as bar:
        task = bar.add_task("attribution", total=len(budget.sequences), completed=len(done))
        for indices, scores in results:
            extra = {"indices": torch.tensor(indices)}
            write_atomically(folder / f"batch-{indices[0]:06d}.safetensors", partial(scores.save, extra=extra))
            bar.advance(task, len(indices))


def _finished(folder: Path) -> set[int]:
    """Return the indices of the sequences whose scores are in the folder, in undamaged files."""
    return {index for file in _batch_files(folder) for index in _indices(file) or []}


def _remove_damaged(folder: Path) -> None:
    """Remove files that cannot be read, such as a truncated one, so that their batches are scored again."""
    for file in _batch_files(folder):
        if _indices(file) is None:
            warnings.warn(f"{file} is damaged; its scores are computed again", stacklevel=5)
            file.unlink()


def _distinct_rows(rows: Sequence[Hashable]) -> list[int]:
    """Return for each entry its number among the distinct ones, which count from 0 in the order of their first use."""
    number: dict[Hashable, int] = {}
    return [number.setdefault(row, len(number)) for row in rows]


def _assembled(folder: Path, count: int) -> EdgeScores:
    """Return the scores of all batches in the folder, in the order of the sequences."""
    whole: EdgeScores | None = None
    for file in _batch_files(folder):
        part, indices = EdgeScores.load(file), _indices(file) or []
        if whole is None:
            whole = empty_scores(count, part)
        fits = part.graph.same_as(whole.graph) and part.how == whole.how
        if not fits or len(part) != len(indices) or not max(indices) < count:
            raise RLCircuitsError(f"{file} is of another run than the other files in its folder; remove the folder")
        fill_rows(whole, indices, part)
    assert whole is not None, "a run has at least one batch"
    return whole


def _batch_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("batch-*.safetensors"))


def _indices(file: Path) -> list[int] | None:
    """Return the indices of the sequences that a file has scores of, or None if the file is damaged."""
    try:
        # Opening the file already compares its header with its size.
        with safetensors.safe_open(str(file), framework="pt") as opened:
            return opened.get_tensor("indices").tolist()  # type: ignore[no-any-return]
    except (OSError, safetensors.SafetensorError):
        return None


def _read_manifest(folder: Path, key: str, count: int) -> _Manifest | None:
    """Return the manifest in the folder, or None if there is none yet."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = _MANIFEST.validate_json(file.read_bytes(), strict=True)
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


def _write_manifest(manifest: _Manifest, path: Path) -> None:
    path.write_bytes(_MANIFEST.dump_json(manifest, exclude={"scoring"} if manifest.scoring is None else None))
