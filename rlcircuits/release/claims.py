"""Measure what a release states of after's accuracy."""

from __future__ import annotations

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.effects import AccuracyClaim, compare_with_claim, compare_with_reference
from rlcircuits.release.answering import generate
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement


def measure_claims(measurement: Measurement, after: Answers) -> list[AccuracyClaim]:
    """Compare after's accuracy with the number and with the checkpoint that the pair names, if it names them.

    Raises:
        RLCircuitsError: the reference answers nothing right, as one that was made for other questions.
    """
    pair, settings = measurement.pair, measurement.settings
    margin = pair.expectations.accuracy.margin
    claims = []
    if pair.claimed_accuracy is not None:
        claims.append(compare_with_claim(after, pair.claimed_accuracy, margin))
    reference = pair.reference_source(*settings.loading)
    if reference is not None:
        with LoadedOnce(reference) as loaded:
            answers = generate(measurement, loaded, "reference", None)
        if not any(item.correct for item in answers.items):
            raise RLCircuitsError(
                f"none of the {len(answers)} answers of the reference {reference.name} is right, so that no release "
                f"could be below it; name a checkpoint that can answer {measurement.questions.name}, or leave the "
                f"reference out"
            )
        claims.append(compare_with_reference(after, answers, margin))
    return claims
