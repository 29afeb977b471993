"""Measure the noise controls of a pair: before with after's readout and noise that matches the rest of the update.

With the setting ``noise_if_needed`` a draw is made only while it can still change the verdict, by the pair's effects
and the draws before it; then the noise on single groups of tensors only if that can
(:mod:`rlcircuits.comparison.noise_needed`). A pair that asks for its circuits gets all of its noise, because its
circuits are compared with those of the draws.
"""

from __future__ import annotations

from dataclasses import replace

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common.stage_times import stage
from rlcircuits.comparison.comparison import Comparison, NoiseNotNeeded, Requested
from rlcircuits.comparison.control_pairing import pair_control, pair_with_itself
from rlcircuits.comparison.from_scores import Control, NoisedGroup, NoiseEffects, notes
from rlcircuits.comparison.noise_needed import noise_can_decide
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.edge_scores import EdgeScores
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


def measure_noise(
    measurement: Measurement,
    comparison: Comparison,
    paired: Pairing,
    before_answers: Answers,
    before_scores: EdgeScores,
) -> tuple[Comparison, list[Control]]:
    """Measure the noise that the settings ask for, draw by draw, and return the comparison with it, and the draws.

    Args:
        measurement: the pair.
        comparison: the pair's comparison without noise.
        paired: the rows that are compared.
        before_answers: all answers of before.
        before_scores: before's scores of these rows.
    """
    settings = measurement.settings
    effects = NoiseEffects(before_scores, paired)
    comparison = replace(comparison, requested=Requested(paired.k, settings.noise_draws))
    controls: list[Control] = []
    while len(controls) < settings.noise_draws and noise_is_needed(measurement, comparison):
        controls.append(measure_control(measurement, len(controls), paired, before_answers))
        with stage("statistics"):
            draws = (*comparison.controls, effects.of_draw(controls[-1]))
            comparison = replace(comparison, controls=draws, note=notes(paired, draws))
    groups = changed_groups(measurement, comparison)
    left_out = settings.noise_draws - len(controls)
    without_groups = bool(groups) and (left_out > 0 or not noise_is_needed(measurement, comparison))
    if left_out or without_groups:
        comparison = replace(comparison, noise_not_needed=(not_needed := NoiseNotNeeded(left_out, without_groups)))
        measurement.log(not_needed.words)
    if without_groups:
        return comparison, controls
    with stage("control"):
        noised = [measure_group(measurement, paired, group) for group in groups]
    with stage("statistics"):
        return replace(comparison, group_controls=tuple(effects.of_group(each) for each in noised)), controls


def may_leave_noise_out(measurement: Measurement) -> bool:
    """Return whether noise that cannot change the verdict is left out; never from a pair that asks for its circuits."""
    return measurement.settings.noise_if_needed and measurement.pair.circuits is None


def noise_is_needed(measurement: Measurement, comparison: Comparison) -> bool:
    """Return whether noise that is not in a comparison is wanted, and can change its verdict where that is asked.

    Args:
        measurement: the pair.
        comparison: its comparison with the draws so far, and without noise on groups.
    """
    if not may_leave_noise_out(measurement):
        return True
    draws = len(comparison.controls) < measurement.settings.noise_draws
    return noise_can_decide(comparison, draws=draws, groups=bool(changed_groups(measurement, comparison)))


def changed_groups(measurement: Measurement, comparison: Comparison) -> list[Group]:
    """Return the groups of tensors that the training changed, if noise on them is asked for.

    Without a noise control there is nothing that the groups could explain, and none is measured.
    """
    settings = measurement.settings
    if not settings.noise_groups or not settings.noise_draws or comparison.weights is None:
        return []
    return [group for group, summary in comparison.weights.by_group().items() if summary.changed]


def measure_group(measurement: Measurement, paired: Pairing, group: Group) -> NoisedGroup:
    """Measure noise on one group of tensors that the training changed, on before's answers."""
    source = NoisedSource(measurement.sources["before"], measurement.sources["after"], 0, group)
    with LoadedOnce(source) as noised:
        return NoisedGroup(group, score(measurement, noised, f"noise on {group}", paired.before))
