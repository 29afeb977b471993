"""Measure the noise controls of a pair: before with after's readout and noise that matches the rest of the update."""

from __future__ import annotations

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common.stage_times import stage
from rlcircuits.comparison.control_pairing import pair_control, pair_with_itself
from rlcircuits.comparison.from_scores import Control, NoisedGroup
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.models.tensor_groups import Group
from rlcircuits.release.answering import generate
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.scoring import score


@stage("control")
def measure_control(measurement: Measurement, draw: int, paired: Pairing, before_answers: Answers) -> Control:
    """Measure one draw of the noise control.

    With ``noise_answers = "own"`` it answers the pair's questions, and is scored if enough of the compared ones are
    right; with ``before`` it answers nothing and is scored on before's answers.
    """
    source = NoisedSource(measurement.sources["before"], measurement.sources["after"], draw)
    who = f"noise {draw}"
    with LoadedOnce(source) as noised:
        if measurement.settings.noise_answers == "before":
            return Control(draw, None, pair_with_itself(paired), score(measurement, noised, who, paired.before))
        answers = generate(measurement, noised, who, measurement.prompts.get("before"))
        comparable = pair_control(paired, before_answers, answers)
        scores = None
        if comparable.k >= measurement.settings.min_questions:
            scores = score(measurement, noised, who, comparable.sequences)
    return Control(draw, answers, comparable, scores)


@stage("control")
def measure_groups(measurement: Measurement, paired: Pairing, weights: WeightChanges) -> list[NoisedGroup]:
    """Measure noise on each group of tensors that the training changed, one at a time, on before's answers.

    Without a noise control there is nothing that the groups could explain, and none is measured.
    """
    settings = measurement.settings
    if not settings.noise_groups or not settings.noise_draws:
        return []
    changed = [group for group, summary in weights.by_group().items() if summary.changed]
    return [measure_group(measurement, paired, group) for group in changed]


def measure_group(measurement: Measurement, paired: Pairing, group: Group) -> NoisedGroup:
    """Measure noise on one group of tensors that the training changed, on before's answers."""
    source = NoisedSource(measurement.sources["before"], measurement.sources["after"], 0, group)
    with LoadedOnce(source) as noised:
        return NoisedGroup(group, score(measurement, noised, f"noise on {group}", paired.before))
