# PYTHON_ARGCOMPLETE_OK
"""The entry point of ``rlcircuits``: a command for a whole comparison, and one for each of its steps.

Every error is one line on standard error; :mod:`rlcircuits.cli.exit_codes` lists the exit codes. If pairs fail in
several ways the exit code is the first of 70, 2, 1, 3 and 0 that applies: a pair that was not measured counts more than
an outcome, and an outcome that does not hold more than an inconclusive one. A fault of rlcircuits itself leaves a file
with the traceback, which the error names.

Each command imports torch when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from rlcircuits.cli.answer import add_answer
from rlcircuits.cli.attribute import add_attribute
from rlcircuits.cli.calibrate import add_calibrate
from rlcircuits.cli.check import add_check
from rlcircuits.cli.circuits import add_circuits
from rlcircuits.cli.command import check_not_empty
from rlcircuits.cli.compare import add_compare
from rlcircuits.cli.exit_codes import BAD_INPUT, FAULT, INTERRUPTED, OUTPUT_CLOSED
from rlcircuits.cli.fixtures import add_fixtures
from rlcircuits.cli.init import add_init
from rlcircuits.cli.plan import add_plan
from rlcircuits.cli.remote_output import check_urls
from rlcircuits.cli.report import add_report
from rlcircuits.cli.schema import add_schema
from rlcircuits.cli.signals import terminated_as_interrupted
from rlcircuits.cli.signs import add_signs
from rlcircuits.cli.streams import checked_output, log_error, open_streams, said_to_stderr
from rlcircuits.cli.track import add_track
from rlcircuits.cli.verify import add_verify
from rlcircuits.cli.watch import add_watch
from rlcircuits.common.errors import RLCircuitsError, truncate
from rlcircuits.common.failures import describe_failure

_LONGEST = 300
"""Characters of an argparse message, which quotes whole arguments."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the command line without the program's name; by default that of the process.
    """
    open_streams()
    options: argparse.Namespace | None = None
    try:
        with terminated_as_interrupted(), checked_output():
            parser = _parser()
            if "_ARGCOMPLETE" in os.environ:
                _complete(parser)
            options = parser.parse_args(arguments)
            check_not_empty(options)
            check_urls(options, options.urls)
            with said_to_stderr(quiet=options.quiet, verbose=options.verbose):
                return int(options.run(options))
    except KeyboardInterrupt:
        folder = None if options is None else getattr(options, options.resumes_from or "", None)
        log_error(f"interrupted; the same command resumes from {folder}" if folder else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return OUTPUT_CLOSED
    except Exception as error:
        failure = describe_failure(error)
        log_error(failure.message)
        return FAULT if failure.is_fault else BAD_INPUT


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors of the command line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, and exit."""
        log_error(f"{truncate(str(RLCircuitsError(message)), _LONGEST)}; {self.prog} --help lists what is possible")
        raise SystemExit(BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rlcircuits",
        description="Compare two checkpoints of a language model edge by edge: what reinforcement learning did to its "
        "internal circuits.",
    )
    parser.add_argument("--version", action="version", version=f"rlcircuits {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for add in (
        add_check,
        add_init,
        add_plan,
        add_compare,
        add_answer,
        add_attribute,
        add_report,
        add_track,
        add_watch,
        add_circuits,
        add_signs,
        add_verify,
        add_calibrate,
        add_fixtures,
        add_schema,
    ):
        add(commands)
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how the line goes on, and exit; nothing without the package argcomplete."""
    with suppress(ImportError):
        import argcomplete

        argcomplete.autocomplete(parser)


def _version() -> str:
    try:
        return importlib.metadata.version("rlcircuits")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
