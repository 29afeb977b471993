"""Attribute one model of a pair: edge scores of the sequences that it is compared on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rlcircuits.attribution.cache import attribute_stored
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.own_work import own_work
from rlcircuits.common.stage_times import stage
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.counterfactuals import corrupted_sequences, has_counterfactuals
from rlcircuits.release.foils import metric_of
from rlcircuits.release.loaded_once import LoadedOnce, Stopwatch
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.scoring_passes import passes


def estimator_options(
    measurement: Measurement, source: Source, other: Source, sequences: Sequence[AnswerSequence]
) -> dict[str, Any]:
    """Return what the settings say of how edges are estimated, as arguments of ``attribute``.

    Args:
        measurement: the pair.
        source: the model that is scored.
        other: the other model of the pair, for the metric ``kl``.
        sequences: what the model is scored on, for the foil of each one's question.
    """
    settings = measurement.settings
    return {
        "metric": metric_of(measurement, source, other, sequences),
        "method": settings.method,
        "steps": settings.steps,
        "points": settings.points,
        "rules": settings.rules or (),
    }


@contextmanager
def attribution_options(
    measurement: Measurement, source: LoadedOnce, who: str, sequences: Sequence[AnswerSequence]
) -> Iterator[dict[str, Any]]:
    """Yield how a model of the pair is attributed, as arguments of ``attribute_stored`` or ``attribute_spans_stored``.

    Args:
        measurement: the pair.
        source: the model.
        who: ``before``, ``after`` or another name for before with noise.
        sequences: what the model is scored on.
    """
    settings = measurement.settings
    with LoadedOnce(measurement.sources["after" if who == "before" else "before"]) as other:
        yield {
            **estimator_options(measurement, source, other, sequences),
            "granularity": settings.granularity,
            "corrupted": corrupted_sequences(measurement, source, sequences),
            "batch_tokens": settings.batch_tokens,
            "recompute": settings.recompute,
            "progress": measurement.progress,
            "store": measurement.store,
            "notify": measurement.log,
        }


@stage("attribute")
def score(measurement: Measurement, source: LoadedOnce, who: str, sequences: Sequence[AnswerSequence]) -> EdgeScores:
    """Return a model's edge scores of these sequences, from the store if they are there.

    Args:
        measurement: the pair.
        source: the model; it is loaded only if scores are missing from the store.
        who: the model's name in the log.
        sequences: what the model is scored on; row i of the scores is sequence i.
    """
    measurement.log(f"{who} is attributed on {len(sequences)} answers")
    stopwatch = Stopwatch(source)
    with attribution_options(measurement, source, who, sequences) as options, own_work() as own:
        scores = attribute_stored(source, sequences, **options, share=measurement.shared)
    tokens = sum(sequence.input_length for sequence in sequences)
    times = passes(measurement.settings, has_counterfactuals(measurement))
    measurement.note_throughput("scores", stopwatch, tokens, own, times)
    return scores
