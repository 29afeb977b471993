"""A cache of scores by span: one file for each set of sequences, spans and options.

The file is written as :func:`~rlcircuits.attribution.span_attribution.attribute_spans` writes its own, row by row under
a temporary name. So a run that was killed starts again. One that has finished loads no model.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcircuits.attribution.attributed_metrics import AttributedMetric, MetricFunction, make_metric
from rlcircuits.attribution.cache import keyed_source, scoring_fields
from rlcircuits.attribution.corrupted import check_number_of_corrupted
from rlcircuits.attribution.options import Estimator
from rlcircuits.attribution.span_attribution import attribute_spans, check_spans
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.checkpoints.unchanged import check_unchanged
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import CROSS_ENTROPY, EAP, Method, Points
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, cache_path, content_hash, short_name, write_lock
from rlcircuits.graph.answer_spans import AnswerSpans
from rlcircuits.graph.edge_graph import check_granularity
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.graph.span_scores import SpanScores
from rlcircuits.models.backward_rules import BackwardRules

__all__ = ["SPANS_FILE", "attribute_spans_stored"]

FORMAT = "rlcircuits-span-scores"
VERSION = 1
"""To be raised whenever the same inputs may give other scores, or the file another layout."""

SPANS_FILE = "spans.safetensors"
"""The file in a run's folder of the store."""


@validate_arguments
def attribute_spans_stored(
    model: Source | Checkpoint,
    sequences: Sequence[AnswerSequence],
    spans: Sequence[AnswerSpans],
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
) -> SpanScores:
    """Score every edge for every span, as :func:`~rlcircuits.attribute_spans` does, and cache the scores on disk.

    The cache key is the source's fingerprint, the sequences, their spans and the options that change scores. Scores
    that are there load no model. While another process makes the same scores, this one waits for it.

    Args:
        model: a source of a checkpoint, such as ``CheckpointSource``. A loaded ``Checkpoint`` has no fingerprint and
            is allowed only without a store.
        sequences: as for ``attribute_spans``, and so are all arguments that are not named here.
        spans: the spans of each sequence.
        granularity: nodes of the graph.
        metric: what is differentiated. With a store, not a function of your own, which has no key.
        method: where gradients are taken.
        steps: points of integrated gradients.
        points: where on its step each point lies.
        rules: rules that replace parts of the backward.
        corrupted: sequences to patch from.
        batch_tokens: most tokens in a batch.
        backend: the backend of the contraction.
        recompute: gradient checkpointing.
        progress: show a progress bar on stderr.
        store: the cache's folder. Without it nothing is stored, and the scores are in memory.
        notify: called with one line of text when this process has to wait for another.

    Returns:
        The scores. Those of a store lie in its file, and are read where they are used.

    Raises:
        RLCircuitsError: whatever ``attribute_spans`` raises; a store together with a loaded checkpoint or with a metric
            that has no key; no sequences.
    """
    estimator = Estimator(make_metric(metric), method, steps, points, BackwardRules.named(rules))
    how: dict[str, Any] = {
        "metric": estimator.metric,
        "method": method,
        "steps": steps,
        "points": points,
        "rules": rules,
        "corrupted": corrupted,
        "batch_tokens": batch_tokens,
        "backend": backend,
        "recompute": recompute,
        "progress": progress,
    }
    if store is None:
        checkpoint = model if isinstance(model, Checkpoint) else model.load()
        return attribute_spans(checkpoint, sequences, spans, granularity, **how)
    source = keyed_source(model)
    check_granularity(granularity)
    estimator.check_corrupted(corrupted is not None)
    if corrupted is not None:
        check_number_of_corrupted(sequences, corrupted)
    if not sequences:
        raise RLCircuitsError("there are no sequences to score")
    check_spans(sequences, spans)
    key = content_hash(
        {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": (fingerprint := source.fingerprint()),
            "sequences": [each.key_parts for each in sequences],
            "spans": [[each.prompt, *each.steps] for each in spans],
            "granularity": granularity,
            "batch_tokens": batch_tokens,
            "backend": backend,
            **scoring_fields(estimator, corrupted),
        }
    )
    folder = cache_path(Path(store), (short_name(source.name), granularity, "spans"), key)
    if (found := _stored(folder)) is not None:
        return found
    with write_lock(folder, notify):
        if (found := _stored(folder)) is not None:  # another process has made them meanwhile
            return found
        folder.mkdir(exist_ok=True)
        file = folder / SPANS_FILE
        found = attribute_spans(source.load(), sequences, spans, granularity, out=file, **how)
        try:
            check_unchanged(source, fingerprint)
        except RLCircuitsError:
            file.unlink()
            raise
        return found


def _stored(folder: Path) -> SpanScores | None:
    """Return the scores in a folder of the store; None if there are none, or only a damaged file."""
    file = folder / SPANS_FILE
    if not file.is_file():
        return None
    try:
        return SpanScores.load(file)
    except RLCircuitsError:
        warnings.warn(f"{file} is damaged; its scores are computed again", stacklevel=4)
        return None
