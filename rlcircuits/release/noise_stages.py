"""Decide whether a stage of noise has anything to do, from what other stages left in the store."""

from __future__ import annotations

from dataclasses import replace

from rlcircuits.comparison.from_scores import NoiseEffects
from rlcircuits.comparison.noise_needed import noise_can_decide
from rlcircuits.release.controls import may_leave_noise_out, measure_control
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.stage_memory import StageMemory

__all__ = ["noise_stage_is_needed"]


def noise_stage_is_needed(measurement: Measurement, memory: StageMemory, *, of_draw: bool) -> bool:
    """Return whether a noise draw, or noise on a group of tensors, can change the verdict, where that is asked.

    A draw is judged without the other draws, which other processes make at the same time. So it may be said to be
    needed where :func:`~rlcircuits.release.controls.measure_noise`, which makes one after another, has no need of it,
    and never the other way round.

    Args:
        measurement: the pair; the scores of both sides are in the store, and for a group the draws that are needed.
        memory: what the process keeps.
        of_draw: whether the stage is a draw; else it is noise on one group of tensors.
    """
    if not may_leave_noise_out(measurement):
        return True
    settings = measurement.settings
    comparison, before_scores = memory.compared(measurement)
    needed = noise_can_decide(comparison, draws=True, groups=settings.noise_groups)
    if of_draw or not needed:
        return needed
    paired, before_answers = memory.paired(measurement)
    effects = NoiseEffects(before_scores, paired)
    draws = (measure_control(measurement, draw, paired, before_answers) for draw in range(settings.noise_draws))
    comparison = replace(comparison, controls=tuple(effects.of_draw(draw) for draw in draws))
    return noise_can_decide(comparison, draws=False, groups=True)
