"""``rlcircuits signs --path``: how straight the path of one training is, by its stored checkpoints."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log
from rlcircuits.common.errors import RLCircuitsError

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource

_NUMBER = re.compile(r"(\d+)$")


def add_path_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training's path."""
    add = parser.add_argument
    add(
        "--path",
        nargs="+",
        metavar="DIR",
        help="checkpoints of one training, that before it first: how well a straight line predicts each from the "
        "others (linearity), beside random walks; at least five after the first",
    )
    add(
        "--path-steps",
        metavar="LIST",
        help="training step of each checkpoint of --path but the first, separated by commas (default: the numbers at "
        "the end of the folders' names, such as checkpoint-40, by which they are then sorted; else 1, 2, 3, …)",
    )
    add(
        "--extrapolate",
        nargs=2,
        metavar=("STEP", "DIR"),
        help="write the checkpoint that a straight path would have at this step into a new folder: the first "
        "checkpoint of --path plus the last one's update times STEP over its step",
    )


def path_signs(options: argparse.Namespace, unused: Sequence[str]) -> int:
    """Measure the linearity of ``--path``, print it, and write what else was asked for.

    Args:
        options: the options of ``rlcircuits signs``.
        unused: other options that were given, which say nothing of a path.

    Raises:
        RLCircuitsError: options that do not fit, or as :func:`~rlcircuits.vital_signs.training_path.linearity`.
    """
    from rlcircuits.report.sign_tables import path_json, path_table
    from rlcircuits.vital_signs.training_path import check_steps, linearity

    if unused:
        raise RLCircuitsError(f"{', '.join(unused)}: given with --path, which needs the weights alone; leave it out")
    before, checkpoints, steps, note = _ordered(options.path, options.path_steps)
    check_steps(checkpoints, steps)
    if options.extrapolate is not None:
        _check_extrapolation(steps[-1], *options.extrapolate)
    first, *path = [_source(each) for each in (before, *checkpoints)]
    log(f"the updates of {len(path)} checkpoints are read, matrix by matrix{note}")
    sign = linearity(first, path, steps)
    print(path_json(sign, before, checkpoints, steps) if options.json else path_table(sign, before, checkpoints, steps))
    if options.plot is not None:
        from rlcircuits.report.path_plot import plot_path

        log(f"plot of the path: {plot_path(sign, before, options.plot)}")
    if options.extrapolate is not None:
        log(_extrapolate(first, path[-1], steps[-1], *options.extrapolate))
    return HOLDS


def _ordered(path: Sequence[str], listed: str | None) -> tuple[str, list[str], list[float], str]:
    """Return the checkpoint before, the others in the order of their steps, these steps, and a note about them."""
    before, *others = path
    if listed is not None:
        return before, others, [_number(text.strip(), "--path-steps") for text in listed.split(",")], ""
    numbered = {each: int(found[1]) for each in others if (found := _NUMBER.search(Path(each).name))}
    if unnumbered := [each for each in others if each not in numbered]:
        note = (
            f"; their steps are 1, 2, 3, … as given, since the name of {unnumbered[0]} ends in no number; --path-steps "
            "gives others"
        )
        return before, others, [float(place) for place in range(1, len(others) + 1)], note
    by_step: dict[int, str] = {}
    for each in others:
        step = numbered[each]
        if step in by_step:
            raise RLCircuitsError(
                f"--path: the names of {by_step[step]} and {each} both end in {step}, so that their steps are not "
                "known; give them with --path-steps, or each checkpoint once"
            )
        by_step[step] = each
    return before, [by_step[step] for step in sorted(by_step)], [float(step) for step in sorted(by_step)], ""


def _number(text: str, option: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise RLCircuitsError(f"{option}: {text!r} is no training step; a number is wanted, such as 40")
    return found


def _source(path: str) -> CheckpointSource:
    from rlcircuits.checkpoints.source import CheckpointSource
    from rlcircuits.release.pairs_file import resolve_checkpoint

    source = CheckpointSource(resolve_checkpoint(path, Path(), "--path"), device="cpu")
    _ = source.folder  # raises for one that is not there, before any is read
    return source


def _check_extrapolation(at: float, step: str, folder: str) -> None:
    """Check the step and the folder of ``--extrapolate``, and the last checkpoint's step, before any weight is read."""
    from rlcircuits.common.new_folder import check_new_folder

    for found in (_number(step, "--extrapolate"), at):
        if found <= 0:
            raise RLCircuitsError(f"--extrapolate: step {found:g} is not after the first checkpoint, at step 0")
    check_new_folder(Path(folder), "the extrapolated checkpoint")


def _extrapolate(before: CheckpointSource, last: CheckpointSource, at: float, step: str, folder: str) -> str:
    """Write the extrapolated checkpoint, and return a line that says so."""
    from rlcircuits.checkpoints.damage.folder import save_damaged
    from rlcircuits.checkpoints.damage.source import DamagedSource

    wanted = float(step) / at
    saved = save_damaged(DamagedSource(before, "delta", wanted, reference=last), folder, log)
    return (
        f"{saved.folder}: the checkpoint of a straight path at step {step}, {wanted:g} times the update of {last.name}"
    )
