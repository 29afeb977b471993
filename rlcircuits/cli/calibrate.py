"""``rlcircuits calibrate``: measure how often the gate is wrong on the pairs of a file."""

from __future__ import annotations

import argparse
import shlex
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.cli.streams import log
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ensure_writable_file

if TYPE_CHECKING:
    from rlcircuits.calibration.tasks import Task

PARTS = ("repeatability", "nulls", "answers", "noise-answers", "sabotage")


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
    calibrate.add_argument(
        "--only", metavar="PATTERN", action="append", help="only pairs whose name matches, such as '*-grpo'; repeatable"
    )
    calibrate.add_argument(
        "--sabotage-only",
        metavar="PATTERN",
        action="append",
        help="only pairs whose name matches have their base in the sabotage suite; repeatable",
    )
    for name, default, what in (
        ("seeds", 10, "sampling seeds of each pair"),
        ("fewer", 3, "sampling seeds of each pair with fewer answers, and with draws on before's answers"),
        ("nulls", 45, "nulls of each checkpoint, at most seeds × (seeds − 1) / 2"),
        ("sabotage-runs", 5, "sampling seeds of each variant of the sabotage suite"),
        ("jobs", 1, "processes"),
    ):
        calibrate.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    calibrate.add_argument("--core", action="store_true", help="only the small part of the sabotage suite")
    calibrate.add_argument("--page", metavar="FILE.md", help="also write the tables to this file")


def _calibrate(options: argparse.Namespace) -> int:
    from rlcircuits.calibration.document import calibration_page
    from rlcircuits.calibration.runner import make_runs

    for name in ("seeds", "fewer", "nulls", "sabotage_runs", "jobs"):
        if getattr(options, name) < 1:
            raise RLCircuitsError(f"--{name.replace('_', '-')} is {getattr(options, name)}; at least 1 is wanted")
    if options.page is not None:
        ensure_writable_file(options.page, "--page")
    tasks = _tasks(options)
    runs = make_runs(tasks, Path(options.output), jobs=options.jobs, notify=log, progress=sys.stderr.isatty())
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
    pairs = [pair for pair in file.pairs if any(fnmatch(pair.name, each) for each in options.only or ["*"])]
    if not pairs:
        raise RLCircuitsError(
            f"--only {' '.join(options.only)} matches no pair of {options.file}, which has "
            f"{', '.join(pair.name for pair in file.pairs)}"
        )
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
        counts = [n for n in (1, 2) if n < settings.sampling.n]
        if not counts:
            raise RLCircuitsError(
                "--parts names answers, and one answer to each question, as the pairs file asks for, cannot be fewer: "
                "leave the part out with --parts, or set n in [settings.sampling]"
            )
        for n in counts:
            fewer = make_settings(merge_tables(file.settings, {"sampling": {"n": n}}))
            tasks += repeated(pairs, fewer, options.fewer, "answers")
    if "noise-answers" in parts:
        cheaper = make_settings(merge_tables(file.settings, {"noise_answers": "before"}))
        tasks += repeated(pairs, cheaper, options.fewer, "noise-answers")
    if "sabotage" in parts:
        only = options.sabotage_only or ["*"]
        variants = list(sabotage(file.pairs, settings, options.sabotage_runs, core=options.core, only=only))
        if not variants:
            raise RLCircuitsError(
                f"there is no checkpoint to damage: --sabotage-only {' '.join(only)} matches no pair of online RL in "
                f"{options.file}; name one, or leave the part out with --parts"
            )
        tasks += variants
    return tasks


def _command(options: argparse.Namespace) -> str:
    """Return the command line that makes the runs again."""
    words = ["rlcircuits", "calibrate", options.file, "--output", options.output]
    words += [word for pattern in options.only or () for word in ("--only", pattern)]
    words += [word for pattern in options.sabotage_only or () for word in ("--sabotage-only", pattern)]
    for name, default in (("seeds", 10), ("fewer", 3), ("nulls", 45), ("sabotage_runs", 5)):
        if getattr(options, name) != default:
            words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    if options.parts != ",".join(PARTS):
        words += ["--parts", options.parts]
    words += ["--core"] if options.core else []
    words += ["--page", options.page] if options.page else []
    return shlex.join(words)
