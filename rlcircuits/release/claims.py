"""Measure what a release states of after's accuracy."""

from __future__ import annotations

from rlcircuits.answers.answer_file import Answers
from rlcircuits.comparison.effects import AccuracyClaim, compare_with_claim, compare_with_reference
from rlcircuits.release.answering import generate
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement


def measure_claims(measurement: Measurement, after: Answers) -> list[AccuracyClaim]:
    """Compare after's accuracy with the number and with the checkpoint that the pair names, if it names them."""
    pair, settings = measurement.pair, measurement.settings
    margin = pair.expectations.accuracy.margin
    claims = []
    if pair.claimed_accuracy is not None:
        claims.append(compare_with_claim(after, pair.claimed_accuracy, margin))
    reference = pair.reference_source(settings.device, settings.dtype, settings.trust_remote_code)
    if reference is not None:
        with LoadedOnce(reference) as loaded:
            claims.append(compare_with_reference(after, generate(measurement, loaded, "reference", None), margin))
    return claims
