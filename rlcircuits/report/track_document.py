"""Write a tracked run as JSON, whose schema is shipped, and as CSV, a line for each step and measure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Literal

from rlcircuits.common.json_files import without_nan
from rlcircuits.comparison.effects import Number
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.verdict import judge
from rlcircuits.release.track import Track, TrackedStep, UnmeasuredStep
from rlcircuits.report.measure_rows import MeasureRow, as_csv, measure_rows
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.vital_signs.sign import Sign

__all__ = ["TRACK_VERSION", "TrackDocument", "track_csv", "track_json"]

TRACK_VERSION: Literal[1] = 1

_CONFIDENCE = 0.95
"""Confidence of the intervals of vital signs."""


@dataclass(frozen=True)
class StepMeasure:
    """One measure or vital sign of one step; a number that it does not have is null."""

    kind: Literal["measure", "sign"]
    measure: str
    before: Number
    """Of the base, on the questions that the step was compared on; accuracy on all questions."""
    after: Number
    """Of the step's checkpoint."""
    difference: Number
    """after − before, in the measure's unit; of a sign of the pair as a whole, such as a KL divergence, its value."""
    change: Number
    """The difference in relation to before; null for signs."""
    low: Number
    """Lower end of the interval of the difference."""
    high: Number
    confidence: Number
    noise_change: Number
    """Mean of `change` over the noise draws."""
    p: Number
    outcome: str | None
    """Of what is asserted of the measure, or of the sign; null if nothing is asserted."""
    words: str
    count: int
    """Questions that the numbers are about."""


@dataclass(frozen=True)
class TrackStep:
    """One step of the run."""

    step: int
    checkpoint: str
    folder: str
    """Its folder of results."""
    outcome: Outcome
    """Of its verdict."""
    words: str
    compared: int
    """Questions that the metrics were compared on."""
    note: str | None
    measures: tuple[StepMeasure, ...]
    """The measures of its verdict, then what is only reported, then its vital signs."""


@dataclass(frozen=True)
class NotMeasured:
    """A step that could not be measured, or not all of it."""

    step: int
    why: str


@dataclass(frozen=True)
class TrackDocument:
    """A run's checkpoints, each against the run's base."""

    format: Literal["rlcircuits-track"]
    version: Literal[1]
    base: str
    base_step: int
    """The base's step if it is one of the run's checkpoints, else 0."""
    algorithm: str
    profile: str
    questions: str
    steps: tuple[TrackStep, ...]
    """In ascending order."""
    unmeasured: tuple[NotMeasured, ...]


def track_json(track: Track) -> str:
    """Return a run as a JSON document, with NaN as null. It must have a step that was measured."""
    return json.dumps(without_nan(asdict(_document(track))), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def track_csv(track: Track) -> str:
    """Return a run as CSV text with a line of names; an unknown value is empty."""
    names = ["step", "checkpoint", *(each.name for each in fields(StepMeasure)), "verdict"]
    rows = (
        {"step": step.step, "checkpoint": step.checkpoint, **without_nan(asdict(measure)), "verdict": step.outcome}
        for step in _document(track).steps
        for measure in step.measures
    )
    return as_csv(names, rows)


def _document(track: Track) -> TrackDocument:
    first = track.steps[0].comparison
    return TrackDocument(
        "rlcircuits-track",
        TRACK_VERSION,
        track.base,
        track.base_step,
        first.algorithm,
        first.profile,
        first.questions,
        tuple(map(_step, track.steps)),
        tuple(map(_not_measured, track.unmeasured)),
    )


def _step(step: TrackedStep) -> TrackStep:
    comparison = step.comparison
    verdict = judge(comparison)
    measures = [_measure(row) for row in measure_rows(comparison)]
    measures += [_sign(sign) for sign in ([] if step.signs is None else step.signs.signs)]
    return TrackStep(
        step.step,
        comparison.after,
        str(step.folder),
        verdict.outcome,
        verdict_words(verdict),
        comparison.k,
        comparison.note,
        tuple(measures),
    )


def _not_measured(step: UnmeasuredStep) -> NotMeasured:
    return NotMeasured(step.step, step.failure.message)


def _measure(row: MeasureRow) -> StepMeasure:
    same = {name: getattr(row, name) for name in _SAME}
    return StepMeasure(kind="measure", difference=row.after - row.before, **same)


_SAME = (
    "measure", "before", "after", "change", "low", "high", "confidence", "noise_change", "p", "outcome", "words",
    "count",
)  # fmt: skip


def _sign(sign: Sign) -> StepMeasure:
    low, high = sign.interval or (math.nan, math.nan)
    return StepMeasure(
        kind="sign",
        measure=sign.name,
        before=_or_nan(sign.before),
        after=_or_nan(sign.after),
        difference=_or_nan(sign.change),
        change=math.nan,
        low=low,
        high=high,
        confidence=math.nan if sign.interval is None else _CONFIDENCE,
        noise_change=math.nan,
        p=_or_nan(sign.p),
        outcome=sign.outcome,
        words=sign.note,
        count=sign.questions or 0,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
