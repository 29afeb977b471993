"""``rlcircuits track``: metrics, verdict and vital signs along the checkpoints of a training run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command, add_option, add_options, settings_table
from rlcircuits.cli.exit_codes import failure_code
from rlcircuits.cli.ray_connection import ray_connection
from rlcircuits.cli.remote_output import mirrored_output
from rlcircuits.cli.streams import log, log_error, shows_progress
from rlcircuits.common.choices import OPENAI
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_count
from rlcircuits.release.option import GROUPS, Group
from rlcircuits.release.options import find_option

if TYPE_CHECKING:
    from rlcircuits.release.pair import Pair
    from rlcircuits.release.settings import Settings
    from rlcircuits.release.track import Track
    from rlcircuits.release.training_run import FoundRun, StepCheckpoint
    from rlcircuits.runners.ray_runner import RayRun

_OF_PAIR = ("algorithm", "profile", "accuracy", "margin", "control", "questions", "device_map")
"""Options of a pair that say how a step is judged and measured."""

_OUTPUT = "rlcircuits"
"""Folder of the results within that of a run."""


def add_track(commands: Any) -> None:
    """Add the command."""
    track = add_command(
        commands,
        "track",
        _track,
        "follow a training run: accuracy, metrics, verdict and vital signs of each of its checkpoints against the "
        "run's base, as a table, a plot and a page; only checkpoints that were not measured before are measured; exits "
        "with 0 whatever the verdicts, with 2 or 70 if a checkpoint could not be measured",
        resumes_from="output",
        urls=("output",),
    )
    add = track.add_argument
    add(
        "checkpoints",
        nargs="+",
        metavar="RUN_DIR",
        help="folder with the checkpoints of a run, such as checkpoint-100 or step_200, LoRA adapters too; or a list "
        "of such checkpoints",
    )
    add(
        "--base",
        metavar="DIR",
        help="checkpoint that training started from: a folder or a hub id (default: that of the steps measured before, "
        "the base model of LoRA adapters, or the first checkpoint)",
    )
    add(
        "--output",
        metavar="DIR",
        help=f"folder or URL (s3://, gs://, file://) that keeps each step's results; an interrupted run resumes from "
        f"it (default: {_OUTPUT}/ in RUN_DIR)",
    )
    add("--no-signs", action="store_true", help="leave out the vital signs")
    add("--no-models", action="store_true", help="leave out the signs for which the models are run on the answers")
    add("--stages", action="store_true", help="log each stage of each step too, not its result alone")
    add(
        "--replace",
        action="store_true",
        help="measure steps anew that were measured with other options, in place of their results; without this such "
        "steps are an error",
    )
    form = track.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as JSON (rlcircuits schema track)")
    form.add_argument("--csv", action="store_true", help="print a line of numbers for each step and measure instead")
    add("--plot", metavar="FILE.png", help="plot every measure along the steps, with intervals, too")
    add("--html", metavar="FILE.html", help="write one page too: where the run stands, and every measure step by step")
    judged = track.add_argument_group(GROUPS["pair"])
    for name in ("algorithm", "profile", "accuracy", "margin", "control"):
        add_option(judged, find_option(name, "pair"))
    # A run that is watched has no exit code of its own, and a checkpoint that answers nothing right is a point too.
    where = (
        "run the stages of all steps on Ray: local starts it on this machine, auto takes the cluster that this machine "
        "is part of, else a cluster's address; all machines must see RUN_DIR, and DIR if it is no URL (default: in "
        "this process)"
    )
    groups: tuple[Group, ...] = ("comparison", "answers", "scoring", "model", "runner")
    add_options(track, *groups, changes={"ray": {"help": where}}, without=("on_inconclusive",))


def _track(options: argparse.Namespace) -> int:
    with mirrored_output(options), ray_connection(options):
        if options.mirror is not None:
            options.mirror.fetch_results()
        return _tracked(options)


def _tracked(options: argparse.Namespace) -> int:
    from rlcircuits.release.track import TrackOptions, check_steps, remember_base, track_run
    from rlcircuits.release.training_run import find_steps

    _check_files(options)
    run = find_steps(options.checkpoints)
    options.output = output = _output(options)  # named by the message of an interruption
    base, steps, base_step = _split(run, options, Path(output))
    settings = _settings(options)
    _pair(options, base, "check", steps[0].folder)  # before anything is measured
    for line in run.left_out:
        log(f"left out: {line}")
    log(f"{format_count(len(steps), 'checkpoint')} against {base}; results in {output}")
    how = TrackOptions(
        make_pair=lambda name, checkpoint: _pair(options, base, name, checkpoint),
        settings=settings,
        output=Path(output),
        replace=options.replace,
        signs=not options.no_signs,
        run_models=not options.no_models,
        notify=log,
        notify_stage=_stage_log(options),
        progress=shows_progress(),
    )
    track = None
    remember_base(base, how)  # this and the next before workers write into the folder
    if options.ray is not None:
        check_steps(steps, how)
    with _runner(options, base, steps, settings) as runner:
        if runner is not None:
            how = replace(how, measure_elsewhere=runner.finish)
        for track in track_run(base, steps, how, base_step=base_step):
            _say_last(track)
    assert track is not None, "there is a step at least"
    return _show(track, options)


def _runner(
    options: argparse.Namespace, base: str, steps: Sequence[StepCheckpoint], settings: Settings
) -> AbstractContextManager[RayRun | None]:
    """Return what does the stages of the steps elsewhere; None where this process does them."""
    if options.ray is None:
        return nullcontext()
    from rlcircuits.release.track import step_name
    from rlcircuits.runners.ray_runner import RayRun

    pairs = []
    for each in steps:
        with suppress(RLCircuitsError):  # which is said when its turn comes
            pairs.append(_pair(options, base, step_name(each), each.folder))
    how = {"address": options.ray, "gpus": options.ray_gpus, "notify": _stage_log(options), "mirror": options.mirror}
    return RayRun(pairs, settings, Path(options.output), **how)


def _stage_log(options: argparse.Namespace) -> Callable[[str], None]:
    """Return what says a line about a stage, if those are wanted."""
    return log if options.stages else (lambda _line: None)


def _show(track: Track, options: argparse.Namespace) -> int:
    """Print and write what was asked for, and return the exit code."""
    if track.steps:
        as_data = options.json or options.csv
        print(_text(track, options), end="" if as_data else "\n")
        say = log if as_data else print  # standard output is the data's alone
        if options.plot is not None:
            from rlcircuits.report.track_plot import plot_track

            say(f"plot: {plot_track(track, options.plot)}")
        if options.html is not None:
            from rlcircuits.report.page.track import write_track_page

            say(f"page: {write_track_page(track, options.html)}")
    sys.stdout.flush()  # errors follow, and stand below the table if both streams go to one file
    for each in track.unmeasured:
        log_error(f"step {each.step}: {each.failure.message}")
    return failure_code([each.failure for each in track.unmeasured])


def _text(track: Track, options: argparse.Namespace) -> str:
    if options.json:
        from rlcircuits.report.track_document import track_json

        return track_json(track)
    if options.csv:
        from rlcircuits.report.track_document import track_csv

        return track_csv(track)
    from rlcircuits.report.track_table import track_table

    return track_table(track)


def _say_last(track: Track) -> None:
    """Log the step that was measured last, so that a run is followed while it is measured."""
    from rlcircuits.report.track_table import step_line

    if track.measured_last is not None:
        log(step_line(track.measured_last))


def _check_files(options: argparse.Namespace) -> None:
    if options.plot is not None:
        from rlcircuits.report.figures import check_plot_file

        check_plot_file(options.plot)
    if options.html is not None:
        from rlcircuits.common.files import ensure_writable_file

        ensure_writable_file(options.html, "--html")


def _output(options: argparse.Namespace) -> str:
    if options.output is not None:
        return str(options.output)
    if len(options.checkpoints) > 1:
        raise RLCircuitsError("--output is missing; a list of checkpoints needs a folder for the results")
    return str(Path(options.checkpoints[0]) / _OUTPUT)


def _split(run: FoundRun, options: argparse.Namespace, output: Path) -> tuple[str, list[StepCheckpoint], int]:
    """Return the base, the checkpoints that are compared with it, and the base's step, which is 0 if it has none."""
    from rlcircuits.release.pairs_file import resolve_checkpoint
    from rlcircuits.release.track import stored_base
    from rlcircuits.release.training_run import default_base

    if options.base is not None:
        base = resolve_checkpoint(options.base, Path(), "--base")
    else:
        known = stored_base(output)
        where = "the base" if known is None else f"{output}: the base of the steps in it"
        base = resolve_checkpoint(known or default_base(run), Path(), where)
    steps = [each for each in run.steps if Path(each.folder).resolve() != Path(base).resolve()]
    if not steps:
        raise RLCircuitsError(
            f"{base} is the only checkpoint that was found, and it is the base itself; wait for the next one, or give "
            "--base, the checkpoint that training started from"
        )
    own = [each.step for each in run.steps if each not in steps]
    return base, steps, own[0] if own else 0


def _settings(options: argparse.Namespace) -> Settings:
    from rlcircuits.release.settings import check_noise_for_signs, make_settings

    # A step whose weights are still those of the base, or that answers nothing right, is a point of the curve.
    settings = make_settings({"measure_unchanged": True, "stop_early": False, **settings_table(options)})
    if settings.engine == OPENAI:
        raise RLCircuitsError(
            f"--engine is {OPENAI!r}, and the steps of a run have no servers of their own; use 'transformers' or "
            "'vllm', or compare a step with --server-before and --server-after"
        )
    if not options.no_signs:
        check_noise_for_signs(settings, "the options", "leave the signs out with --no-signs")
    return settings


def _pair(options: argparse.Namespace, base: str, name: str, checkpoint: str) -> Pair:
    from rlcircuits.release.pair import make_pair
    from rlcircuits.release.pairs_file import resolve_checkpoint

    given = {each: getattr(options, find_option(each, "pair").dest) for each in _OF_PAIR}
    fields = {each: value for each, value in given.items() if value is not None}
    if "control" in fields:
        fields["control"] = resolve_checkpoint(fields["control"], Path(), "--control")
    if not ("algorithm" in fields or "profile" in fields):
        raise RLCircuitsError("--algorithm is missing: how the run is trained, such as grpo; or --profile")
    return make_pair(name=name, before=base, after=resolve_checkpoint(checkpoint, Path(), "RUN_DIR"), **fields)
