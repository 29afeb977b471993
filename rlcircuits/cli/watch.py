"""``rlcircuits watch``: judge each new checkpoint of a folder as it appears."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.checkpoint_judge import CheckpointJudge
from rlcircuits.cli.command import add_command, add_option
from rlcircuits.cli.exit_codes import BAD_INPUT, DOES_NOT_HOLD, FAULT, HOLDS, INCONCLUSIVE
from rlcircuits.cli.ray_connection import check_cluster, check_ray_gpus
from rlcircuits.cli.streams import log
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.limits import check_number
from rlcircuits.common.reprs import format_count
from rlcircuits.release.options import find_option

if TYPE_CHECKING:
    from rlcircuits.release.settings import Settings
    from rlcircuits.release.watch import Bounds
    from rlcircuits.release.watch_template import Template

_OUTPUT = "rlcircuits-watch"
"""Folder of the results within the one that is watched."""

_INTERVAL = 30.0
"""Seconds between two looks."""

_WORST_FIRST = (FAULT, BAD_INPUT, DOES_NOT_HOLD, INCONCLUSIVE, HOLDS)

_EXAMPLE = """\
example of a template, gate.toml: a pairs file (rlcircuits init writes one) whose pairs have no line `after`

  [settings]
  question_count = 400

  [[pair]]
  name = "gsm8k"
  before = "checkpoints/sft"
  algorithm = "grpo"
  questions = "gsm8k"

  rlcircuits watch runs/grpo --pairs gate.toml

runs/grpo/step-100 is then judged as the pair step-100-gsm8k once its files have stopped changing, and so on.
"""


def add_watch(commands: Any) -> None:
    """Add the command."""
    watch = add_command(
        commands,
        "watch",
        _watch,
        "judge each new checkpoint of a folder as it appears, by the pairs and settings of a template: one line and "
        "one page a checkpoint, and results as compare writes them; goes on until it is interrupted, or as --once, "
        "--stop-after and --for say, and then exits with the worst of what compare would for each checkpoint",
        resumes_from="output",
    )
    watch.epilog, watch.formatter_class = _EXAMPLE, argparse.RawDescriptionHelpFormatter
    watch.description = textwrap.fill(watch.description or "", 79)
    add = watch.add_argument
    add("folder", metavar="FOLDER", help="folder in which a trainer saves checkpoints: step-100, candidate-a, …")
    add(
        "--pairs",
        required=True,
        metavar="TEMPLATE.toml",
        help="pairs file whose pairs have no line `after`: each new checkpoint is their after",
    )
    add(
        "--output",
        metavar="DIR",
        help="folder that keeps the results and a page for each checkpoint; the same command resumes from it "
        f"(default: {_OUTPUT}/ in FOLDER)",
    )
    add(
        "--interval",
        type=float,
        default=_INTERVAL,
        metavar="SECONDS",
        help="time between two looks into the folder; a checkpoint is judged when nothing in it has changed from one "
        f"to the next (default: {_INTERVAL:g})",
    )
    bounds = watch.add_mutually_exclusive_group()
    bounds.add_argument("--once", action="store_true", help="judge what is there after two looks, and end")
    bounds.add_argument(
        "--stop-after",
        type=int,
        metavar="N",
        help="end when N checkpoints are judged or given up, those found judged already too",
    )
    add(
        "--for",
        dest="for_hours",
        type=float,
        metavar="HOURS",
        help="end after so many hours; a checkpoint that is being judged is finished first",
    )
    add("--stages", action="store_true", help="log each stage of each pair too")
    add_option(watch, find_option("on_inconclusive", None))
    for name in ("ray", "ray_gpus"):
        add_option(watch, find_option(name, None))


def _watch(options: argparse.Namespace) -> int:
    from rlcircuits.release.watch import WatchOptions, watch
    from rlcircuits.release.watch_template import load_template

    bounds = _bounds(options)
    folder = Path(options.folder)
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise RLCircuitsError(f"{folder}: {what}; the folder in which checkpoints will appear is wanted")
    template = load_template(options.pairs)
    settings = template.file.make_settings()
    options.output = output = str(options.output or folder / _OUTPUT)  # named by the message of an interruption
    _prepare(template, settings, output)
    check_cluster(options)
    judge = CheckpointJudge(options, template, settings)
    without = frozenset({Path(output).resolve(), *(Path(named).resolve() for named in template.named)})
    log(f"watching {folder} for new checkpoints, every {options.interval:g} s; results in {output}")
    how = WatchOptions(
        judge=judge,
        interval=options.interval,
        bounds=bounds,
        without=without,
        code=settings.trust_remote_code,
        notify=log,
    )
    left = watch(folder, how)
    return _end(folder, judge, left, output)


def _bounds(options: argparse.Namespace) -> Bounds:
    from rlcircuits.release.watch import Bounds

    for name, flag in (("interval", "--interval"), ("stop_after", "--stop-after"), ("for_hours", "--for")):
        if (value := getattr(options, name)) is not None:
            check_number(name, value, flag)
    check_ray_gpus(options)
    seconds = None if options.for_hours is None else 3600 * options.for_hours
    if seconds is not None and seconds < options.interval:
        raise RLCircuitsError(
            f"--for is {seconds:g} s, and two looks lie {options.interval:g} s apart; give more hours, or a shorter "
            "--interval"
        )
    return Bounds(options.once, options.stop_after, seconds)


def _prepare(template: Template, settings: Settings, output: str) -> None:
    from rlcircuits.common.files import ensure_writable_folder
    from rlcircuits.release.toy_notice import pair_notice
    from rlcircuits.release.watched_folder import check_complete

    for named in template.named:
        if Path(named).is_dir():  # else it would be each new checkpoint that cannot be judged
            check_complete(Path(named))
    ensure_writable_folder(output, "--output")
    for notice in dict.fromkeys(pair_notice(pair, settings.trust_remote_code) for pair in template.file.pairs):
        if notice is not None:
            log(notice)


def _end(folder: Path, judge: CheckpointJudge, left: Sequence[str], output: str) -> int:
    """Say how a bounded watch ended, and return its exit code."""
    from rlcircuits.release.watch_template import checkpoint_label

    sys.stdout.flush()  # errors follow, and stand below the lines if both streams go to one file
    for name in left:
        if name not in judge.judged:
            reason = judge.postponed.get(name, "it was not complete, or its files still changed")
            log(f"{checkpoint_label(name)}: not judged; {reason}")
    if not judge.judged and judge.postponed:
        raise RLCircuitsError(f"{folder}: no checkpoint was judged: no cluster was there to measure one on")
    if not judge.judged:
        raise RLCircuitsError(f"{folder}: no checkpoint was judged: no complete one was found in a subfolder of it")
    found = list(judge.judged.values())
    counts = ", ".join(f"{count} × {outcome}" for outcome, count in Counter(each.outcome for each in found).items())
    log(
        f"{format_count(len(found), 'checkpoint')}: {counts}; one page of all: rlcircuits report {output} "
        "--html FILE.html"
    )
    return min((each.code for each in found), key=_WORST_FIRST.index)
