"""The command line: the steps of a comparison together or one at a time.

Exit codes: 0 all is well (``compare``: the verdict holds), 1 the verdict does not hold or a check failed,
2 bad input or set-up, said in one line, 70 a fault of rlcircuits itself, said in one line that names the file with the
traceback, 130 interrupted, 141 nobody reads the output any more. Where several happen in one run the code is the
first of 70, 2, 1 and 0 that applies: what was not measured counts before what was. torch is imported by the
commands that need it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Any, cast

from rlcircuits.cli_fixtures import add_fixtures
from rlcircuits.cli_measure import add_measuring
from rlcircuits.cli_parts import BAD_INPUT, FAULT, INTERRUPTED, UNREAD, check_given, say_error
from rlcircuits.cli_plan import add_planning
from rlcircuits.cli_report import add_report
from rlcircuits.fault import failure_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # A terminal without arrows and alphas should show a question mark, not fail.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            cast("Any", stream).reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        check_given(options)
        code = int(options.run(options))
        # Here, and not when Python ends, so that a reader who has gone is met below.
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        kept = getattr(options, options.kept_in, None) if options.kept_in else None
        say_error(f"interrupted; the same command goes on from what is in {kept}" if kept else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # What is left to write would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:
        failure = failure_of(error)
        say_error(failure.message)
        return FAULT if failure.is_fault else BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcircuits",
        description="What reinforcement learning did to a language model's internal circuitry: compares two "
        "checkpoints edge by edge.",
    )
    parser.add_argument("--version", action="version", version=f"rlcircuits {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_planning(commands)
    add_measuring(commands)
    add_report(commands)
    add_fixtures(commands)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("rlcircuits")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
