"""Make one run: measure, judge, and keep what the tables need."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlcircuits.answers.answer_file import Answers
from rlcircuits.calibration.null_pair import measure_null
from rlcircuits.calibration.run_record import CLAIM, Run
from rlcircuits.calibration.tasks import Task, short_path
from rlcircuits.comparison.accuracy_outcome import judge_accuracy, judge_claim
from rlcircuits.comparison.comparison import Comparison, ControlDraw
from rlcircuits.comparison.effects import AccuracyClaim, AccuracyEffect, compare_accuracy, paired_effects
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import ACCURACY
from rlcircuits.comparison.verdict import judge, noise_reads_as_online_rl, reads_as_online_rl
from rlcircuits.release.answering import PairAnswers
from rlcircuits.release.claims import measure_claims
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement, prepare
from rlcircuits.release.run import measure

SAMPLES = (50, 100, 200)
"""Numbers of compared questions on which a pair is judged again."""


def execute(task: Task, store: Path) -> Run:
    """Make a run.

    Of a sabotaged pair only as much is measured as decides whether it holds: the metrics only where accuracy does not
    say that it does not, and the noise control, beyond which an effect must lie too, only where it holds without.

    Args:
        task: the run.
        store: the folder that caches answers and scores.
    """
    start = time.perf_counter()
    measurement = prepare(task.pair, task.settings, None, store, lambda _line: None, False)
    before, after = task.sources
    measurement = replace(measurement, sources={"before": before, "after": after})
    if task.part == "nulls":
        return _run(task, start, measure_null(measurement, task))
    if task.part == "sabotage":
        before_answers, after_answers = _answers(measurement)
        accuracy = compare_accuracy(before_answers, after_answers)
        outcome = judge_accuracy(accuracy, measurement.pair.expectations.accuracy).outcome
        if outcome == "does not hold":
            return _failed_by_accuracy(task, start, accuracy, measure_claims(measurement, after_answers))
        without_control = replace(measurement.settings, noise_draws=0, noise_groups=False)
        comparison = measure(replace(measurement, settings=without_control))
        if judge(replace(comparison, claims=())).outcome != "holds":
            return _run(task, start, comparison)
    return _run(task, start, measure(measurement))


def _answers(measurement: Measurement) -> tuple[Answers, Answers]:
    answers = PairAnswers(replace(measurement, settings=replace(measurement.settings, stop_early=False)))
    before = answers.of_before()
    with LoadedOnce(measurement.sources["after"]) as after:
        return before, answers.of_after(after)


def _run(task: Task, start: float, comparison: Comparison) -> Run:
    verdict = judge(comparison)
    draws = judged_draws(comparison)
    return Run(
        **_identity(task),
        outcome=verdict.outcome,
        findings={measure: each.outcome for measure, each in verdict.all_findings.items() if each.outcome},
        pattern=reads_as_online_rl(comparison),
        before=comparison.accuracy.before,
        after=comparison.accuracy.after,
        reference=_reference(comparison.claims),
        compared=comparison.k,
        seconds=round(time.perf_counter() - start, 2),
        by_k=_by_sample(comparison, task.settings.sampling.seed) if task.part in ("repeatability", "answers") else {},
        noise_patterns=sum(noise_reads_as_online_rl(comparison, draw) for draw in draws),
        noise_draws=len(draws),
    )


def judged_draws(comparison: Comparison) -> tuple[ControlDraw, ...]:
    """Return the noise draws that can be judged with the others as their control.

    None can if there is a single one, or if one was not measured: no draw exceeds that one.
    """
    draws = comparison.controls
    return draws if len(draws) > 1 and all(draw.shifts for draw in draws) else ()


def _failed_by_accuracy(task: Task, start: float, accuracy: AccuracyEffect, claims: Sequence[AccuracyClaim]) -> Run:
    return Run(
        **_identity(task),
        outcome="does not hold",
        findings={ACCURACY: "does not hold", **{claim.measure: judge_claim(claim).outcome for claim in claims}},
        pattern=False,
        before=accuracy.before,
        after=accuracy.after,
        reference=_reference(claims),
        compared=0,
        seconds=round(time.perf_counter() - start, 2),
    )


def _reference(claims: Sequence[AccuracyClaim]) -> float | None:
    return next((claim.wanted for claim in claims if claim.measure == CLAIM), None)


def _identity(task: Task) -> dict[str, Any]:
    sampling = task.settings.sampling
    return {
        "key": task.key,
        "part": task.part,
        "name": task.name,
        "base": short_path(task.pair.before),
        "kind": task.kind,
        "tag": task.tag,
        "seed": sampling.seed,
        "n": sampling.n,
    }


def _by_sample(comparison: Comparison, seed: int) -> dict[int, Outcome]:
    """Judge the pair on random samples of its compared questions; accuracy stays that of all questions asked."""
    random = np.random.default_rng(seed)
    found: dict[int, Outcome] = {}
    for count in SAMPLES:
        if count < comparison.k:
            places = np.sort(random.choice(comparison.k, count, replace=False))
            effects = paired_effects(
                {metric: np.array(effect.before_values)[places] for metric, effect in comparison.effects.items()},
                {metric: np.array(effect.after_values)[places] for metric, effect in comparison.effects.items()},
            )
            found[count] = judge(replace(comparison, effects=effects)).outcome
    return found
