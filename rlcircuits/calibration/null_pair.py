"""Compare a checkpoint with itself, sampled with another seed: a pair on which nothing should be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.calibration.tasks import Task
from rlcircuits.common.files import content_hash
from rlcircuits.comparison import pairing
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.from_scores import compare
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.answering import generate
from rlcircuits.release.counterfactuals import corrupted_sequences
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.scoring import estimator_options

_SCORING = ("granularity", "metric", "method", "steps", "points", "rules", "rules_version")
"""The settings that scores depend on, as :meth:`~rlcircuits.release.settings.Settings.key_table` has them."""


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


_known: dict[tuple[str, str, str], dict[AnswerSequence, EdgeScores]] = {}
"""The scores that this process made last, by fingerprint, settings and questions: nulls of one checkpoint share
sequences."""


def null_scores(checkpoint: LoadedOnce, measurement: Measurement, sequences: Sequence[AnswerSequence]) -> EdgeScores:
    """Return a checkpoint's scores of these sequences, made as the settings say; each is scored once in a process.

    Args:
        checkpoint: the model; it is loaded only if scores are missing.
        measurement: how it is scored, and the questions, whose counterfactuals and foils are taken.
        sequences: row i of the scores is sequence i.
    """
    settings, questions = measurement.settings, measurement.questions
    scoring = {name: value for name, value in settings.key_table().items() if name in _SCORING}
    key = (checkpoint.fingerprint(), content_hash(scoring), questions.name)
    if key not in _known:
        _known.clear()  # the nulls of one checkpoint follow one another
    known = _known.setdefault(key, {})
    missing = [sequence for sequence in dict.fromkeys(sequences) if sequence not in known]
    if missing:
        made = attribute(
            checkpoint.load(),
            missing,
            settings.granularity,
            settings.batch_tokens,
            **estimator_options(measurement, checkpoint, checkpoint, missing),
            corrupted=corrupted_sequences(measurement, checkpoint, missing),
            recompute=settings.recompute,
        )
        known |= {sequence: made.of_rows([row]) for row, sequence in enumerate(missing)}
    rows = [known[sequence] for sequence in sequences]
    values, loss, measured = (
        torch.cat([getattr(row, name) for row in rows]) for name in ("values", "loss", "metric_values")
    )
    return replace(rows[0], values=values, loss=loss, metric_values=measured)
