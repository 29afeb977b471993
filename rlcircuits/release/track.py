"""Measure a run's checkpoints, each against the run's base: the points of a training's curve.

Every step is a pair like any other (:func:`~rlcircuits.release.run.run_pair`), in a folder of its own
``step-000100`` of the output folder. All steps share one store, so that the base answers once. A step that was measured
before is only read, also if its checkpoint has been deleted since, as trainers delete old ones.

:data:`TRACK_FILE` in the output folder names the base, so that a later call cannot mix curves of two bases.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.failures import Failure, describe_failure
from rlcircuits.common.files import COMPARISON_FILE, Notify, ensure_writable_folder, write_text_atomically, written_at
from rlcircuits.common.versioned_files import read_versioned
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.release.finished import of_pair_just_measured
from rlcircuits.release.measured_signs import how_to_run, measure_and_save_signs
from rlcircuits.release.pair import Pair
from rlcircuits.release.plan_cost_table import show_duration
from rlcircuits.release.run import run_pair
from rlcircuits.release.run_record import load_run
from rlcircuits.release.settings import Settings
from rlcircuits.release.step_options import check_same_options
from rlcircuits.release.stored_signs import SIGNS_FILE, PairSigns, load_signs
from rlcircuits.release.training_run import StepCheckpoint
from rlcircuits.vital_signs.names import MEASURED_FROM

__all__ = [
    "TRACK_FILE",
    "Track",
    "TrackOptions",
    "TrackedStep",
    "UnmeasuredStep",
    "check_steps",
    "remember_base",
    "step_name",
    "stored_base",
    "track_run",
]

TRACK_FILE = "track.json"
_FORMAT, _VERSION = "rlcircuits-track-base", 1

_FOLDER = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class TrackedStep:
    """A step that was measured."""

    step: int
    comparison: Comparison
    signs: PairSigns | None
    """None if they were not asked for, or could not be measured."""
    folder: Path
    """Its folder of results."""


@dataclass(frozen=True)
class UnmeasuredStep:
    """A step that could not be measured, or not all of it."""

    step: int
    failure: Failure


@dataclass(frozen=True)
class Track:
    """A run, as far as it is measured."""

    base: str
    base_step: int
    """The base's step if it is one of the run's checkpoints, else 0."""
    steps: tuple[TrackedStep, ...]
    """In ascending order."""
    unmeasured: tuple[UnmeasuredStep, ...] = ()
    measured_last: TrackedStep | None = None
    """The step that was measured last; None if it was only read, or could not be measured."""


@dataclass(frozen=True)
class TrackOptions:
    """How a run is measured."""

    make_pair: Callable[[str, str], Pair]
    """Returns the pair of this name with this checkpoint as after."""
    settings: Settings
    output: Path
    replace: bool = False
    """Whether a step that was measured with other options is measured anew, in place of its results."""
    signs: bool = True
    run_models: bool = True
    """Whether the models are run for signs; see :func:`~rlcircuits.release.pair_signs.measure_pair_signs`."""
    notify: Notify = field(default=lambda _line: None)
    """Called with a line of text for each step."""
    notify_stage: Notify = field(default=lambda _line: None)
    """Called with a line of text for each stage of a step."""
    progress: bool = False
    measure_elsewhere: Callable[[Pair], bool] | None = None
    """Called with each step's pair, to return when its results are in its folder, and whether they were made by this;
    None to measure it here."""


@dataclass(frozen=True)
class _File:
    format: str
    version: int
    base: str
    fingerprint: str


_ADAPTER: TypeAdapter[_File] = TypeAdapter(_File)


def stored_base(output: Path) -> str | None:
    """Return the base of the steps in an output folder; None for a folder without any.

    Raises:
        RLCircuitsError: the file that names it is damaged.
    """
    return found.base if (found := _read(output)) is not None else None


def track_run(
    base: str, steps: Sequence[StepCheckpoint], options: TrackOptions, *, base_step: int = 0
) -> Iterator[Track]:
    """Measure the checkpoints that were not measured before, and yield the run after each of them.

    A checkpoint that cannot be measured does not stop the others. The last value has all steps.

    Args:
        base: folder or hub id of the checkpoint that all are compared with.
        steps: the checkpoints, one at least.
        options: how.
        base_step: the base's step, if it is one of the run's checkpoints.

    Raises:
        RLCircuitsError: the base is not found, the output folder cannot be written, or it holds steps of another base,
            or of other options (:func:`check_steps`).
    """
    fingerprint = remember_base(base, options)
    check_steps(steps, options)
    earlier = _other_steps(options, {each.step for each in steps}, fingerprint)
    measured: list[TrackedStep] = []
    problems: list[UnmeasuredStep] = []
    took: list[float] = []
    for place, each in enumerate(steps, start=1):
        options.notify_stage(f"step {each.step}, {place} of {len(steps)}: {each.folder}")
        folder, started = options.output / step_name(each), time.perf_counter()
        written = _written(folder)
        new: TrackedStep | None = None
        try:
            found, problem = _measure(each, options)
        except BrokenPipeError:  # the reader of the messages has gone
            raise
        except Exception as error:
            problems.append(UnmeasuredStep(each.step, describe_failure(error, str(options.output))))
        else:
            measured.append(found)
            problems += [] if problem is None else [problem]
            if _written(folder) != written:
                new = found
                took.append(time.perf_counter() - started)
                again = written[0] is not None and _written(folder)[0] != written[0]
                how = " anew (its results were of other options or files, or damaged)" if again else ""
                options.notify(f"step {each.step}, {place} of {len(steps)}, {_pace(took, len(steps) - place, how)}")
        known = [*measured, *(other for other in earlier if _is_comparable(other, measured))]
        yield Track(base, base_step, tuple(sorted(known, key=lambda one: one.step)), tuple(problems), new)
    for other in earlier:
        if not _is_comparable(other, measured):
            options.notify(
                f"step {other.step}: left out; its checkpoint is not among those of this call, and {other.folder} was "
                "measured with other settings"
            )


def check_steps(steps: Sequence[StepCheckpoint], options: TrackOptions) -> None:
    """Check that no results of these steps would be replaced by those of other options, unless that is asked for.

    Raises:
        RLCircuitsError: a step was measured with other options; the message names both.
    """
    if options.replace:
        return
    pairs = []
    for each in steps:
        with suppress(RLCircuitsError):  # which is said when its turn comes
            pairs.append(options.make_pair(step_name(each), each.folder))
    check_same_options(pairs, options.settings, options.output)


def step_name(checkpoint: StepCheckpoint) -> str:
    """Return the name of a step's pair, and of its folder of results."""
    return f"step-{checkpoint.step:06d}"


def _written(folder: Path) -> list[int | None]:
    """Return when a step's results were written, which tells one that was measured from one that was read."""
    return written_at(folder / name for name in (COMPARISON_FILE, SIGNS_FILE))


def _pace(took: Sequence[float], left: int, how: str) -> str:
    """Return how long the last step took, and how long as many as are left may take."""
    more = f", about {show_duration(left * sum(took) / len(took))} for the {left} left" if left else ""
    return f"measured{how} in {took[-1]:,.0f} s{more}"


def _measure(checkpoint: StepCheckpoint, options: TrackOptions) -> tuple[TrackedStep, UnmeasuredStep | None]:
    """Return a measured step, and why its signs could not be measured, if so."""
    pair = options.make_pair(step_name(checkpoint), checkpoint.folder)
    how: dict[str, Any] = {"notify": options.notify_stage, "progress": options.progress}
    if options.measure_elsewhere is not None and options.measure_elsewhere(pair):
        how["notify"] = of_pair_just_measured(options.notify_stage)
    comparison = run_pair(pair, options.settings, output=options.output, **how)
    folder = options.output / pair.name
    if not options.signs:
        return TrackedStep(checkpoint.step, comparison, None, folder), None
    signs = _earlier_signs(folder, run_models=options.run_models)
    problem = None
    if signs is None:
        unwritten: list[Failure] = []
        try:
            signs = measure_and_save_signs(
                folder, unwritten, run_models=options.run_models, **how, **how_to_run(pair, options.settings)
            )
        except BrokenPipeError:  # the reader of the messages has gone
            raise
        except Exception as error:  # the step's comparison is there all the same
            failure = describe_failure(error, options.output).of("its signs could not be measured")
            problem = UnmeasuredStep(checkpoint.step, failure)
        if unwritten:
            problem = UnmeasuredStep(checkpoint.step, unwritten[0])
    return TrackedStep(checkpoint.step, comparison, signs, folder), problem


def _earlier_signs(folder: Path, *, run_models: bool) -> PairSigns | None:
    """Return the signs that are stored, if they are of the answers beside them and all that is asked for is there."""
    if not (folder / SIGNS_FILE).is_file():
        return None
    try:
        signs = load_signs(folder)
    except RLCircuitsError:
        return None
    has_models = any(sign.name in MEASURED_FROM["log-probabilities"] for sign in signs.signs)
    return signs if has_models or not run_models else None


def _other_steps(options: TrackOptions, wanted: set[int], fingerprint: str) -> list[TrackedStep]:
    """Return the steps that were measured by earlier calls, and whose checkpoints are not among those of this one."""
    found = []
    for file in sorted(options.output.glob(f"step-*/{COMPARISON_FILE}")):
        named = _FOLDER.fullmatch(file.parent.name)
        if named is None or int(named[1]) in wanted:
            continue
        try:
            comparison, run = load_comparison(file), load_run(file.parent)
        except RLCircuitsError as error:
            options.notify(f"step {int(named[1])}: left out; {error}")
            continue
        if run.fingerprints.get("before") == fingerprint:
            signs = _earlier_signs(file.parent, run_models=False) if options.signs else None
            found.append(TrackedStep(int(named[1]), comparison, signs, file.parent))
    return found


def _is_comparable(step: TrackedStep, measured: Sequence[TrackedStep]) -> bool:
    """Return whether a step was measured in the same way as those of this call."""
    return not measured or _how(step.comparison) == _how(measured[0].comparison)


def _how(comparison: Comparison) -> dict[str, object]:
    names = (
        "profile", "questions", "split", "granularity", "sampling", "prompting", "score_on", "alpha", "balance",
        "rules", "requested", "scoring",
    )  # fmt: skip
    return {name: getattr(comparison, name) for name in names}


def remember_base(base: str, options: TrackOptions) -> str:
    """Write the base's name and fingerprint unless they are there, and return the fingerprint.

    Raises:
        RLCircuitsError: the output folder cannot be written, or it holds steps of another base.
    """
    output, (device, dtype, trusted) = options.output, options.settings.loading
    ensure_writable_folder(output, "--output")
    fingerprint = CheckpointSource(base, None, dtype, device, None, trusted).fingerprint()
    known = _read(output)
    if known is None:
        file = _File(_FORMAT, _VERSION, base, fingerprint)
        write_text_atomically(output / TRACK_FILE, _ADAPTER.dump_json(file, indent=1).decode() + "\n")
    elif known.fingerprint != fingerprint:
        raise RLCircuitsError(
            f"{output}: holds steps that were compared with {known.base}, and the base is {base} now, which has other "
            f"weights, tokenizer or dtype; give --base {known.base}, or another --output"
        )
    return fingerprint


def _read(output: Path) -> _File | None:
    path = output / TRACK_FILE
    if not path.is_file():
        return None
    return read_versioned(path, _ADAPTER, (_FORMAT, _VERSION), "a tracked run", "give another --output, or remove it")
