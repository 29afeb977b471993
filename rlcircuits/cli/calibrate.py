"""``rlcircuits calibrate``: measure how often the gate is wrong on the pairs of a file."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command, add_only
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log, shows_progress
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ensure_writable_file

if TYPE_CHECKING:
    from rlcircuits.calibration.tasks import Task

PARTS = ("repeatability", "nulls", "answers", "noise-answers", "sabotage")

_NUMBERS = {
    "seeds": (10, "sampling seeds of each pair"),
    "fewer": (3, "sampling seeds of each pair with another number of answers, and with draws on before's answers"),
    "nulls": (45, "nulls of each checkpoint, at most seeds × (seeds − 1) / 2"),
    "sabotage-runs": (5, "sampling seeds of each variant of the sabotage suite"),
    "jobs": (1, "processes"),
}
"""The options that take a number: their defaults, and what they are the number of."""

_ANSWERS = "1,2,4"
"""Default of ``--answers``."""


def add_calibrate(commands: Any) -> None:
    """Add the command."""
    calibrate = add_command(
        commands,
        "calibrate",
        _calibrate,
        "measure how often the gate is wrong: false alarms, repeatability, power, and sabotage; takes hours, and goes "
        "on where it stopped",
        resumes_from="output",
    )
    calibrate.add_argument("file", metavar="FILE.toml", help="pairs file")
    calibrate.add_argument(
        "--output", metavar="DIR", required=True, help="folder of the runs, some of which may be there"
    )
    calibrate.add_argument(
        "--parts", metavar="PART,…", default=",".join(PARTS), help=f"what to run, of {', '.join(PARTS)} (default: all)"
    )
    add_only(calibrate)
    calibrate.add_argument(
        "--sabotage-only",
        metavar="PATTERN",
        action="append",
        help="only pairs whose name matches have their base in the sabotage suite; repeatable",
    )
    for name, (default, what) in _NUMBERS.items():
        calibrate.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    calibrate.add_argument(
        "--answers",
        metavar="N,…",
        default=_ANSWERS,
        help=f"numbers of answers to each question that the part answers tries (default: {_ANSWERS})",
    )
    calibrate.add_argument("--core", action="store_true", help="only the small part of the sabotage suite")
    calibrate.add_argument("--page", metavar="FILE.md", help="also write the tables to this file")


def _calibrate(options: argparse.Namespace) -> int:
    from rlcircuits.calibration.document import calibration_page
    from rlcircuits.calibration.runner import make_runs

    for name in _NUMBERS:
        if (given := _number(options, name)) < 1:
            raise RLCircuitsError(f"--{name} is {given}; at least 1 is wanted")
    if options.page is not None:
        ensure_writable_file(options.page, "--page")
    tasks = _tasks(options)
    runs = make_runs(tasks, Path(options.output), jobs=options.jobs, notify=log, progress=shows_progress())
    page = calibration_page(runs, _command(options))
    if options.page is None:
        print(page)
    else:
        Path(options.page).write_text(page, encoding="utf-8")
        log(f"the tables are in {options.page}")
    return HOLDS


def _tasks(options: argparse.Namespace) -> list[Task]:
    from rlcircuits.calibration.tasks import nulls, repeated, sabotage
    from rlcircuits.release.pairs_file import load_pairs_file
    from rlcircuits.release.settings import make_settings, merge_tables

    parts = options.parts.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise RLCircuitsError(f"--parts names {unknown[0]!r}; it must be of {', '.join(PARTS)}")
    if "noise-answers" in parts and "repeatability" not in parts:
        raise RLCircuitsError(
            "--parts names noise-answers without repeatability, with whose runs its own are compared; name both"
        )
    file = load_pairs_file(options.file)
    settings = file.make_settings()
    pairs = file.only(options.only).pairs
    tasks: list[Task] = []
    if "repeatability" in parts:
        tasks += repeated(pairs, settings, options.seeds)
    if "nulls" in parts:
        if options.seeds < 2:
            raise RLCircuitsError(
                "--seeds is 1; a null takes two sampling seeds: give at least 2, or leave the part out with --parts"
            )
        tasks += nulls(pairs, settings, options.seeds, options.nulls)
    if "answers" in parts:
        if settings.sampling.temperature == 0:
            raise RLCircuitsError(
                f"--parts names answers, and {options.file} samples at temperature 0, where all answers to a question "
                f"are the same; leave the part out with --parts"
            )
        counts = [n for n in _answer_counts(options.answers) if n != settings.sampling.n]
        if not counts:
            raise RLCircuitsError(
                f"--answers names only {settings.sampling.n}, the number that {options.file} asks for anyway; "
                "name another number, or leave the part out with --parts"
            )
        for n in counts:
            other = make_settings(merge_tables(file.settings, {"sampling": {"n": n}}))
            tasks += repeated(pairs, other, options.fewer, "answers")
    if "noise-answers" in parts:
        cheaper = make_settings(merge_tables(file.settings, {"noise_answers": "before"}))
        tasks += repeated(pairs, cheaper, options.fewer, "noise-answers")
    if "sabotage" in parts:
        file.only(options.sabotage_only, "--sabotage-only")  # an error for a pattern that matches no pair
        only = options.sabotage_only or ["*"]
        variants = list(sabotage(file.pairs, settings, options.sabotage_runs, core=options.core, only=only))
        if not variants:
            matching = f" that --sabotage-only {' '.join(only)} matches" if options.sabotage_only else ""
            raise RLCircuitsError(
                f"there is no checkpoint to damage: {options.file} has no pair of online RL{matching}; name one, or "
                f"leave the part out with --parts"
            )
        tasks += variants
    return tasks


def _number(options: argparse.Namespace, name: str) -> int:
    number: int = getattr(options, name.replace("-", "_"))
    return number


def _answer_counts(given: str) -> list[int]:
    """Return the numbers of a list such as ``1,2,8``."""
    try:
        counts = [int(each) for each in given.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise RLCircuitsError(f"--answers is {given!r}; numbers from 1 up are wanted, such as 1,2,8")
    return sorted(set(counts))


def _command(options: argparse.Namespace) -> str:
    """Return the command line that makes the runs again."""
    words = ["rlcircuits", "calibrate", options.file, "--output", options.output]
    words += [word for pattern in options.only or () for word in ("--only", pattern)]
    words += [word for pattern in options.sabotage_only or () for word in ("--sabotage-only", pattern)]
    for name, (default, _) in _NUMBERS.items():
        if name != "jobs" and _number(options, name) != default:
            words += [f"--{name}", str(_number(options, name))]
    if options.answers != _ANSWERS:
        words += ["--answers", options.answers]
    if options.parts != ",".join(PARTS):
        words += ["--parts", options.parts]
    words += ["--core"] if options.core else []
    words += ["--page", options.page] if options.page else []
    return shlex.join(words)
