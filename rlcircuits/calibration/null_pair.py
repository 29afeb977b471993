"""Compare a checkpoint with itself, sampled with another seed: a pair on which nothing should be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.calibration.tasks import Task
from rlcircuits.comparison import pairing
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.from_scores import compare
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.answering import generate
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement


def measure_null(measurement: Measurement, task: Task) -> Comparison:
    """Return the comparison of a checkpoint's answers with its answers of another sampling seed.

    Args:
        measurement: the checkpoint twice, and how it is measured.
        task: names the other seed.
    """
    settings = measurement.settings
    assert task.other_seed is not None
    other = replace(settings, sampling=replace(settings.sampling, seed=task.other_seed))
    with LoadedOnce(measurement.sources["before"]) as checkpoint:
        prompts = measurement.prompts.get("before")
        first = generate(measurement, checkpoint, "one", prompts)
        second = generate(replace(measurement, settings=other), checkpoint, "other", prompts)
        paired = pairing.pair(
            first,
            replace(second, sampling=first.sampling),  # a pair of two checkpoints has one sampling
            alpha=settings.alpha,
            k=settings.k,
            balance=settings.balance,
            seed=settings.seed,
            min_questions=settings.min_questions,
        )
        ours, theirs = (null_scores(checkpoint, measurement, side) for side in (paired.before, paired.after))
    return compare(ours, theirs, paired, first, second, name=task.name, algorithm="grpo")


_known: dict[tuple[str, str], dict[AnswerSequence, EdgeScores]] = {}
"""The scores that this process made last, by fingerprint and granularity: nulls of one checkpoint share sequences."""


def null_scores(checkpoint: LoadedOnce, measurement: Measurement, sequences: Sequence[AnswerSequence]) -> EdgeScores:
    """Return a checkpoint's scores of these sequences; each sequence is scored once in a process.

    Args:
        checkpoint: the model; it is loaded only if scores are missing.
        measurement: how it is scored.
        sequences: row i of the scores is sequence i.
    """
    settings = measurement.settings
    key = (checkpoint.fingerprint(), settings.granularity)
    if key not in _known:
        _known.clear()  # the nulls of one checkpoint follow one another
    known = _known.setdefault(key, {})
    missing = [sequence for sequence in dict.fromkeys(sequences) if sequence not in known]
    if missing:
        made = attribute(checkpoint.load(), missing, settings.granularity, settings.batch_tokens)
        for row, sequence in enumerate(missing):
            known[sequence] = replace(made, values=made.values[row : row + 1], loss=made.loss[row : row + 1])
    rows = [known[sequence] for sequence in sequences]
    values, loss = torch.cat([row.values for row in rows]), torch.cat([row.loss for row in rows])
    return replace(rows[0], values=values, loss=loss)
