"""What the command line's parts share: exit codes, and how a command is declared."""

from __future__ import annotations

import argparse
from typing import Any, cast

HOLDS, DOES_NOT_HOLD, BAD_INPUT = 0, 1, 2


def command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    """Declare a command: `text` is its help, ``run(options)`` gives the exit code."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return cast("argparse.ArgumentParser", parser)
