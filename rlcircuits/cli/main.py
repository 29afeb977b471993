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
import sys
from collections.abc import Sequence
from typing import NoReturn

from rlcircuits.cli.fixtures import add_fixtures
from rlcircuits.cli.measure import add_measuring
from rlcircuits.cli.parts import BAD_INPUT, FAULT, INTERRUPTED, UNREAD, check_given, say_error
from rlcircuits.cli.plan import add_planning
from rlcircuits.cli.report import add_report
from rlcircuits.cli.streams import checked_output, open_streams
from rlcircuits.common.errors import RLCircuitsError, truncate
from rlcircuits.common.failures import describe_failure

_LONGEST = 300
"""Characters of argparse's own message, which quotes whole arguments."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    open_streams()
    kept: str | None = None
    try:
        with checked_output():
            options = _parser().parse_args(arguments)
            check_given(options)
            kept = getattr(options, options.kept_in, None) if options.kept_in else None
            return int(options.run(options))
    except KeyboardInterrupt:
        say_error(f"interrupted; the same command goes on from what is in {kept}" if kept else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except Exception as error:
        failure = describe_failure(error)
        say_error(failure.message)
        return FAULT if failure.is_fault else BAD_INPUT


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and exit."""
        say_error(f"{truncate(str(RLCircuitsError(message)), _LONGEST)}; {self.prog} --help says what there is")
        raise SystemExit(BAD_INPUT)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
