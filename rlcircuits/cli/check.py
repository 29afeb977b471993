"""``rlcircuits check``: say whether a checkpoint is supported, what was found in it, and what measuring it takes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlcircuits.cli.command import add_command, add_option, add_options, settings_table, source_of
from rlcircuits.cli.exit_codes import BAD_INPUT, DOES_NOT_HOLD, HOLDS
from rlcircuits.cli.streams import log, log_error
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.options import find_option

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource
    from rlcircuits.release.model_findings import ModelFindings


def add_check(commands: Any) -> None:
    """Add the command."""
    check = add_command(
        commands,
        "check",
        _check,
        "say whether a checkpoint is supported, what was found where in it, and what measuring it takes; exits with 0 "
        "if every checkpoint is supported, 1 if one is not, 2 if there is nothing to check or the questions cannot be "
        "asked",
    )
    add = check.add_argument
    add("model", help="checkpoint: a folder or a hub id; a LoRA adapter is merged into its base")
    add(
        "second",
        nargs="?",
        help="a second checkpoint, trained from the first: also say what differs beside the weights",
    )
    add("--revision", metavar="REV", help="branch, tag or commit of a hub id (the first checkpoint's)")
    add("--revision-after", metavar="REV", help="branch, tag or commit of the second checkpoint's hub id")
    add(
        "--config-only",
        action="store_true",
        help="read no weights: check a tiny random model with the architecture of the config, but fewer layers, heads, "
        "experts and tokens",
    )
    add("--json", action="store_true", help="print everything as JSON")
    changes = {
        "questions": {
            "default": None,
            "help": "also estimate what it takes to measure on these questions: the name of a set, or a file of JSON "
            "lines",
        }
    }
    add_options(check, "answers", changes=changes)
    add_option(check, find_option("question_count", "settings"))
    add_option(check, find_option("granularity", "settings"))
    add_options(check, "model")


def _check(options: argparse.Namespace) -> int:
    from rlcircuits.checkpoints.source import without_weights
    from rlcircuits.common.devices import usable_device
    from rlcircuits.release.check_cost import plan_check, with_speed
    from rlcircuits.release.model_check import check_model
    from rlcircuits.release.pair_differences import pair_differences
    from rlcircuits.release.settings import make_settings
    from rlcircuits.report.check_table import check_json, check_table

    sources = _sources(options)
    if options.config_only:
        sources = [without_weights(source) for source in sources]
    elif options.device_map is None:
        usable_device(options.device)  # a device that is not there says nothing of a checkpoint
    problems: list[str] = []
    settings = make_settings(settings_table(options))
    plan = None
    if options.questions is not None:
        after = sources[1] if len(sources) > 1 else None
        try:
            plan = plan_check(sources[0], after, options.questions, settings, log)
        except RLCircuitsError as error:
            problems.append(str(error))
    checks: list[ModelFindings] = []
    for source in sources:
        check, checkpoint = check_model(source, config_only=options.config_only, notify=log)
        if plan is not None and checkpoint is not None and not checks:
            log("timing a few answers")
            plan = with_speed(plan, checkpoint, settings)
        del checkpoint  # one model is in memory at a time
        checks.append(check)
    differing = pair_differences(*sources) if len(sources) > 1 else None
    print((check_json if options.json else check_table)(checks, differing, plan))
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    for problem in problems:
        log_error(problem)
    if problems:
        return BAD_INPUT
    comparable = differing is None or not differing.problems
    return HOLDS if comparable and all(check.supported for check in checks) else DOES_NOT_HOLD


def _sources(options: argparse.Namespace) -> list[CheckpointSource]:
    first = source_of(options)
    if options.second is None:
        if options.revision_after is not None:
            raise RLCircuitsError("--revision-after is given without a second checkpoint; name it, or leave it out")
        return [first]
    return [first, replace(first, path=options.second, revision=options.revision_after)]
