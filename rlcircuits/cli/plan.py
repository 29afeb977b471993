"""``rlcircuits plan``: print what a pairs file would run."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rlcircuits.cli.command import add_command, add_only
from rlcircuits.cli.exit_codes import BAD_INPUT, HOLDS
from rlcircuits.cli.streams import log, log_error
from rlcircuits.common.limits import check_number


def add_plan(commands: Any) -> None:
    """Add the command."""
    text = "print what a pairs file would run (tokens, memory, time) and what it can detect; loads no weights"
    plan = add_command(commands, "plan", _plan, text)
    plan.add_argument("file", metavar="FILE.toml", help="pairs file")
    add_only(plan)
    plan.add_argument("--output", metavar="DIR", help="output folder of the run; what it holds need not run again")
    plan.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="say too what N workers take: their hours together, and until the last is done",
    )


def _plan(options: argparse.Namespace) -> int:
    from rlcircuits.release.pairs_file import load_pairs_file
    from rlcircuits.release.plan import make_plan
    from rlcircuits.release.plan_table import show_plan

    if options.workers is not None:
        check_number("workers", options.workers, "--workers")
    file = load_pairs_file(options.file).only(options.only)
    plan = make_plan(file, file.make_settings(), options.output, notify=log)
    print(show_plan(plan, options.workers))
    sys.stdout.flush()  # errors follow, and stand below the tables if both streams go to one file
    missing = [model for model in plan.models if not model.available]
    for model in missing:
        log_error(f"checkpoint {model.name}: {model.problem}")
    for problem in plan.problems:
        log_error(problem)
    return BAD_INPUT if missing or plan.problems else HOLDS
