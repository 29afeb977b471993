"""Find the checkpoints of one training run, and their steps, by the names of their folders.

A step's folder ends in its number: ``checkpoint-100``, ``step_200``, ``global_step_300``, ``0400``. The checkpoint is
the folder itself, or the one checkpoint somewhere below it (``global_step_300/actor/huggingface``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count
from rlcircuits.models.adapters import find_base
from rlcircuits.models.folder import ADAPTER_WEIGHTS, CONFIG, is_adapter
from rlcircuits.models.weight_files import INDEX, SINGLE

__all__ = ["FoundRun", "StepCheckpoint", "checkpoints_in", "default_base", "find_steps", "is_checkpoint"]

_STEP = re.compile(r"(.*?)(\d+)")
"""A step's folder: what stands before its number, and the number. It must match the whole name."""

_DEEPEST = 3
"""How many folders below a step's folder its checkpoint may lie."""

_NAMES = "such as checkpoint-100, step_200 or global_step_300"


@dataclass(frozen=True)
class StepCheckpoint:
    """A checkpoint of a run."""

    step: int
    """The training step after which it was saved."""
    folder: str


@dataclass(frozen=True)
class FoundRun:
    """The checkpoints of a run, by step."""

    first: str | None
    """The one checkpoint of a list whose name has no number, which stands for the start of the training; else None."""
    steps: tuple[StepCheckpoint, ...]
    """One at least, in ascending order."""
    left_out: tuple[str, ...]
    """What in the run's folder is no checkpoint of a step, a sentence each."""


def find_steps(paths: Sequence[str]) -> FoundRun:
    """Return the checkpoints of a run.

    Args:
        paths: the folder of a run, or two or more checkpoints of it. A checkpoint that is being written, which has no
            weights yet, is left out.

    Raises:
        RLCircuitsError: a path is no folder; no checkpoint is found; the steps are ambiguous, because two checkpoints
            have one step or folders of several names are steps; or a name in a list has no number.
    """
    for path in paths:
        if not Path(path).is_dir():
            what = "it is a file" if Path(path).exists() else "there is no such folder"
            raise RLCircuitsError(f"{path}: {what}; the folder of a training run, or checkpoints of it, are wanted")
    run = _listed(paths) if len(paths) > 1 else _in_folder(Path(paths[0]))
    _check_each_step_once(run.steps)
    return run


def default_base(run: FoundRun) -> str:
    """Return what a run's checkpoints are compared with where nothing else is said.

    That is the base model of LoRA adapters, the one checkpoint of a list without a number, or else the first step's.

    Raises:
        RLCircuitsError: an adapter's base is not found.
    """
    if run.first is not None:
        return run.first
    first = Path(run.steps[0].folder)
    if not is_adapter(first):
        return str(first)
    base = find_base(first)
    return str(base.folder) if Path(base.name).is_dir() or (first / base.name).is_dir() else base.name


def _in_folder(folder: Path) -> FoundRun:
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise RLCircuitsError(f"{folder}: cannot be read: {error.strerror or error}") from None
    steps: list[tuple[str, StepCheckpoint]] = []
    left_out = []
    for path in below:
        named = _STEP.fullmatch(path.name)
        checkpoints = list(checkpoints_in(path)) if named else []
        if named and len(checkpoints) == 1:
            steps.append((named[1], StepCheckpoint(int(named[2]), str(checkpoints[0]))))
        elif len(checkpoints) > 1:
            raise RLCircuitsError(
                f"{path}: holds {len(checkpoints)} checkpoints, {checkpoints[0].relative_to(path)} and "
                f"{checkpoints[1].relative_to(path)} among them; give the list of the checkpoints that are meant"
            )
        elif named:
            left_out.append(f"{path}: no weights in it (yet)")
        elif is_checkpoint(path):
            left_out.append(f"{path}: a checkpoint whose name has no step")
    if not steps and is_checkpoint(folder):
        raise RLCircuitsError(
            f"{folder}: it is one checkpoint; the folder of a run or two checkpoints of it are wanted at least (or "
            "rlcircuits compare --before … --after …)"
        )
    if not steps:
        why = f"; {'; '.join(left_out[:2])}" if left_out else ""
        raise RLCircuitsError(
            f"{folder}: no checkpoint of a training step was found{why}; folders whose names end in a step are wanted, "
            f"{_NAMES}, each with {CONFIG} and {SINGLE}, or a LoRA adapter; or give a list of checkpoints"
        )
    prefixes = list(dict.fromkeys(prefix for prefix, _ in steps))
    if len(prefixes) > 1:
        shown = " and ".join(f"{prefix}*" for prefix in prefixes[:3])
        raise RLCircuitsError(
            f"{folder}: the steps are ambiguous, because folders of several names end in a number, {shown}; give the "
            f"list of the checkpoints that are meant, such as {folder / prefixes[0]}*"
        )
    if is_checkpoint(folder):  # as trainers save the last one
        left_out.append(f"{folder}: a checkpoint of its own, whose step is not known")
    return FoundRun(None, tuple(sorted((step for _, step in steps), key=_by_step)), tuple(left_out))


def _listed(paths: Sequence[str]) -> FoundRun:
    without, steps, left_out = [], [], []
    for path in paths:
        named = _STEP.fullmatch(Path(path).resolve().name)
        checkpoints = list(checkpoints_in(Path(path)))
        if len(checkpoints) != 1:
            left_out.append(f"{path}: {'several checkpoints' if checkpoints else 'no weights'} in it")
        elif named:
            steps.append(StepCheckpoint(int(named[2]), str(checkpoints[0])))
        else:
            without.append(path)
    if len(without) > 1:
        raise RLCircuitsError(
            f"{without[0]} and {without[1]}: their names have no step; names that end in a number are wanted, {_NAMES} "
            "(one without a number may stand for the start of the training)"
        )
    if not steps:
        raise RLCircuitsError(f"no checkpoint of a training step was given: {'; '.join(left_out[:3]) or without[0]}")
    return FoundRun(next(iter(without), None), tuple(sorted(steps, key=_by_step)), tuple(left_out))


def _check_each_step_once(steps: Sequence[StepCheckpoint]) -> None:
    seen: dict[int, str] = {}
    for each in steps:
        if each.step in seen:
            raise RLCircuitsError(
                f"the steps are ambiguous: {seen[each.step]} and {each.folder} are both of step {each.step}; give the "
                f"checkpoints of one run ({format_count(len(steps), 'checkpoint')} were found)"
            )
        seen[each.step] = each.folder


def checkpoints_in(folder: Path, depth: int = _DEEPEST) -> Iterator[Path]:
    """Yield the folder if it is a checkpoint, else the checkpoints below it."""
    if is_checkpoint(folder):
        yield folder
    elif depth:
        try:
            folders = sorted(path for path in folder.iterdir() if path.is_dir())
        except OSError:  # the trainer has just deleted it
            return
        for below in folders:
            yield from checkpoints_in(below, depth - 1)


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds an adapter's weights, or a config and a whole model's weights."""
    if is_adapter(folder):
        return (folder / ADAPTER_WEIGHTS).is_file()
    return (folder / CONFIG).is_file() and ((folder / SINGLE).is_file() or (folder / INDEX).is_file())


def _by_step(checkpoint: StepCheckpoint) -> int:
    return checkpoint.step
