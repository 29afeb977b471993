"""Accuracy at temperature 0, beside that of the sampled answers; it is reported, and judges nothing."""

from __future__ import annotations

from dataclasses import replace

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import Side
from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.effects import AccuracyEffect, compare_accuracy
from rlcircuits.release.answering import generate
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement


def check_greedy(measurement: Measurement) -> None:
    """Raise RLCircuitsError if greedy answers are asked of a model whose answers are recorded."""
    for side, file in measurement.recorded.items():
        if measurement.settings.greedy and file is not None:
            raise RLCircuitsError(
                f"greedy is true, and {side}'s answers are recorded in {file}; only a model that generates its answers "
                f"can answer at temperature 0 too: leave out greedy, or recorded_{side}"
            )


def answer_greedily(measurement: Measurement, source: LoadedOnce, side: Side, given: Answers) -> Answers | None:
    """Return a model's answers at temperature 0, one to each question; None if the settings do not ask for them.

    Args:
        measurement: the pair.
        source: the model; it is loaded only if answers are missing from the store.
        side: which of the two it is.
        given: its answers by the settings' sampling, which are returned if that is greedy already.
    """
    if not measurement.settings.greedy:
        return None
    if measurement.settings.sampling.temperature == 0:
        return given
    sampling = greedy_sampling(measurement.settings.sampling)
    return generate(measurement, source, f"{side}, greedily,", measurement.prompts.get(side), sampling=sampling)


def greedy_sampling(sampling: Sampling) -> Sampling:
    """Return the same sampling at temperature 0, with one answer to each question."""
    return replace(sampling, temperature=0.0, top_p=1.0, n=1)


def greedy_accuracy(before: Answers | None, after: Answers | None) -> AccuracyEffect | None:
    """Return both accuracies at temperature 0; None unless both models answered."""
    return None if before is None or after is None else compare_accuracy(before, after)
