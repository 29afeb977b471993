"""``rlcircuits schema``: print the JSON Schema of a file or an output."""

from __future__ import annotations

import argparse
from typing import Any

from rlcircuits.cli.command import add_command
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.report.schema_files import SCHEMAS, read_schema


def add_schema(commands: Any) -> None:
    """Add the command."""
    schema = add_command(commands, "schema", _schema, "print the JSON Schema of a file or an output")
    about = "; ".join(f"{name}: {what}" for name, what in SCHEMAS.items())
    schema.add_argument("name", choices=tuple(SCHEMAS), help=about)


def _schema(options: argparse.Namespace) -> int:
    print(read_schema(options.name), end="")
    return HOLDS
