"""A cache of edge scores, written batch by batch, so that a killed attribution resumes where it stopped.

The cache's folder has one folder for each run. ``manifest.json``, written first, says what is scored and in which
batches. Each finished batch is a safetensors file, written atomically. A resumed run takes its batches from the
manifest, so that it computes each score exactly as an uninterrupted run does.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.attribution.corrupted import check_number_of_corrupted
from rlcircuits.attribution.edge_attribution import (
    attribute,
    attribute_batches,
    graph_of,
)
from rlcircuits.attribution.memory_budget import BatchIndices, MemoryBudget
from rlcircuits.attribution.options import AttributionOptions, Estimator
from rlcircuits.attribution.run_files import (
    FORMAT,
    MANIFEST,
    VERSION,
    Manifest,
    assembled,
    batch_file,
    batch_files,
    distinct_rows,
    finished,
    indices_of,
    read_manifest,
    sequences_hash,
    write_manifest,
)
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.unchanged import check_unchanged
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import CROSS_ENTROPY, EAP, Method, Points
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, cache_path, content_hash, short_name, write_atomically, write_lock
from rlcircuits.common.own_work import count_work
from rlcircuits.common.progress import advance, progress_bar
from rlcircuits.common.shared_work import make_with_others
from rlcircuits.contraction.backends import choose_backend
from rlcircuits.graph.edge_graph import check_granularity
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.models.backward_rules import BackwardRules

__all__ = ["attribute_stored", "keyed_source", "scoring_fields"]


@validate_arguments
def attribute_stored(
    model: Source | Checkpoint,
    sequences: Sequence[AnswerSequence],
    granularity: str = defaults.GRANULARITY,
    *,
    metric: str | AttributedMetric | MetricFunction = CROSS_ENTROPY,
    method: Method = EAP,
    steps: int | None = None,
    points: Points | None = None,
    rules: str | Sequence[str] = (),
    corrupted: Sequence[AnswerSequence] | None = None,
    batch_tokens: int | None = None,
    backend: str | None = None,
    recompute: bool = False,
    progress: bool = False,
    store: str | Path | None = None,
    notify: Notify | None = None,
    share: bool = False,
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
        share: with a store, let other processes that make this call at the same time score some of the batches, instead
            of waiting for one of them.

    Returns:
        The scores and losses in the order of ``sequences``, float32 on the CPU.

    Raises:
        RLCircuitsError: whatever ``attribute`` raises; a store together with a loaded checkpoint or with a metric that
            has no key; no sequences; damaged files in the store.
    """
    estimator = Estimator(make_metric(metric), method, steps, points, BackwardRules.named(rules))
    metric = estimator.metric
    estimator.check_corrupted(corrupted is not None)
    if corrupted is not None:
        check_number_of_corrupted(sequences, corrupted)
    others: Sequence[AnswerSequence | None] = [None] * len(sequences) if corrupted is None else corrupted
    pairs = zip(sequences, others, strict=True)
    row = distinct_rows([(*pair, metric.of_row(place)) for place, pair in enumerate(pairs)])
    how: dict[str, Any] = {
        "method": method,
        "steps": steps,
        "points": points,
        "rules": rules,
        "batch_tokens": batch_tokens,
        "backend": backend,
        "recompute": recompute,
        "progress": progress,
    }
    if len(set(row)) < len(row):
        first: dict[int, int] = {}
        for place, number in enumerate(row):
            first.setdefault(number, place)
        places = list(first.values())  # the numbers count in the order of their first use
        found = attribute_stored(
            model,
            [sequences[place] for place in places],
            granularity,
            metric=metric.of_rows(places),
            corrupted=None if corrupted is None else [corrupted[place] for place in places],
            store=store,
            notify=notify,
            share=share,
            **how,
        )
        return found.of_rows(row)
    if store is None:
        checkpoint = model if isinstance(model, Checkpoint) else model.load()
        return attribute(checkpoint, sequences, granularity, metric=metric, corrupted=corrupted, **how)
    model = keyed_source(model)
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
        **scoring_fields(estimator, corrupted),
    }
    key = content_hash(wanted | {"backend": backend})
    folder = cache_path(Path(store), (short_name(model.name), granularity), key)
    run: _Run | None = None
    if len(finished(folder)) < len(sequences):
        early = model.load() if share else None  # within the lock only one of the processes would load at a time
        with write_lock(folder, notify):
            if len(finished(folder)) < len(sequences):  # another process may have finished them meanwhile
                folder.mkdir(exist_ok=True)
                _remove_damaged(folder)
                checkpoint = early or model.load()
                manifest = read_manifest(folder, key, len(sequences))
                budget = MemoryBudget(checkpoint, sequences, batch_tokens)
                if manifest is None:
                    batches = tuple(budget.plan())
                    chosen = choose_backend(backend, next(checkpoint.model.parameters()))
                    manifest = Manifest(**wanted, key=key, model=model.name, backend=chosen, batches=batches)
                    write_atomically(folder / MANIFEST, partial(write_manifest, manifest))
                options = AttributionOptions(
                    graph_of(checkpoint, manifest.granularity),
                    manifest.backend,
                    corrupted,
                    recompute=recompute,
                    estimator=estimator,
                )
                check = partial(check_unchanged, model, wanted["fingerprint"])
                run = _Run(checkpoint, budget, manifest.batches, options, folder, check)
                if not share:
                    run.score_missing(progress)
        if share and run is not None:  # the lock is free, for others to begin
            run.score_with_others()
    return assembled(folder, len(sequences))


def keyed_source(model: Source | Checkpoint) -> Source:
    """Return the model, whose scores a store keys by its fingerprint. Raises RLCircuitsError for a loaded one."""
    if isinstance(model, Checkpoint):
        raise RLCircuitsError(
            f"a store finds scores by their source's fingerprint, and {model.name} is a loaded checkpoint; "
            "give a source, such as CheckpointSource(folder)"
        )
    return model


def scoring_fields(estimator: Estimator, corrupted: Sequence[AnswerSequence] | None) -> dict[str, Any]:
    """Return the manifest's field ``scoring``; nothing for the default scores, whose keys and files stay as they were.

    Raises:
        RLCircuitsError: the metric has no key.
    """
    how = estimator.how(corrupted is not None).changed
    if not how:
        return {}
    ids = None if corrupted is None else content_hash([each.key_parts for each in corrupted])
    return {"scoring": {"how": how, "metric": estimator.metric.key(), "corrupted": ids}}


@dataclass(frozen=True)
class _Run:
    """A run whose manifest is written: what scores its batches, and the folder that keeps them."""

    checkpoint: Checkpoint
    budget: MemoryBudget
    batches: Sequence[BatchIndices]
    options: AttributionOptions
    folder: Path
    check: Callable[[], None]
    """Raises an error if the model's files have changed; its scores are then not kept."""

    def score_missing(self, progress: bool) -> None:
        """Score and store the sequences that are not in the folder yet."""
        done = finished(self.folder)
        with progress_bar(progress) as bar:
            task = bar.add_task("attribution", total=len(self.budget.sequences), completed=len(done))
            for indices in self._scored(self.batches, done):
                advance(bar, task, len(indices), sum(self.budget.sequences[i].input_length for i in indices))

    def score_with_others(self) -> None:
        """Score and store, batch by batch, what no other process does."""

        def is_done(batch: BatchIndices) -> bool:
            # A batch that was split may lack this file; it is then taken once more, and nothing is found missing.
            file = batch_file(self.folder, batch)
            return file.is_file() and (
                set(indices_of(file) or ()).issuperset(batch) or finished(self.folder).issuperset(batch)
            )

        def make(batch: BatchIndices) -> None:
            for _ in self._scored([batch], finished(self.folder)):
                pass

        make_with_others(self.batches, partial(batch_file, self.folder), is_done, make)

    def _scored(self, batches: Sequence[BatchIndices], done: set[int]) -> Iterator[BatchIndices]:
        """Score what is not done of these batches, and yield the sequences of each file that is written."""
        # A batch that ran out of memory was split, and a part of it may be there.
        missing = [left for batch in batches if (left := tuple(index for index in batch if index not in done))]
        start = time.perf_counter()
        with closing(attribute_batches(self.checkpoint, self.budget, missing, self.options)) as results:
            for indices, scores in results:
                self.check()
                extra = {"indices": torch.tensor(indices)}
                write_atomically(batch_file(self.folder, indices), partial(scores.save, extra=extra))
                now = time.perf_counter()
                count_work(sum(self.budget.sequences[i].input_length for i in indices), now - start)
                start = now
                yield indices


def _remove_damaged(folder: Path) -> None:
    """Remove files that cannot be read, such as a truncated one, so that their batches are scored again."""
    for file in batch_files(folder):
        if indices_of(file) is None:
            warnings.warn(f"{file} is damaged; its scores are computed again", stacklevel=5)
            file.unlink()
