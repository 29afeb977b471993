"""The command line's first steps: ``init`` writes a pairs file, ``plan`` says what it would run."""

from __future__ import annotations

import argparse
import os
from importlib import resources
from pathlib import Path
from typing import Any

from rlcircuits.cli_parts import HOLDS, command
from rlcircuits.errors import RLCircuitsError

DEFAULT_FILE = "release.toml"


def add_planning(commands: Any) -> None:
    """Add ``init`` and ``plan``."""
    init = command(commands, "init", _init, "write a commented pairs file to start from")
    init.add_argument("file", nargs="?", default=DEFAULT_FILE, metavar="FILE.toml", help="(default: %(default)s)")
    init.add_argument("--before", metavar="DIR", help="checkpoint before, to be written in")
    init.add_argument("--after", metavar="DIR", help="checkpoint after the training")
    init.add_argument("--algorithm", help="how it was trained")
    init.add_argument("--questions", metavar="SET", help="question set")
    init.add_argument("--force", action="store_true", help="replace a file that is there")

    plan = command(commands, "plan", _plan, "say what a pairs file would run: tokens, memory, time; loads no weights")
    plan.add_argument("file", metavar="FILE.toml", help="pairs file")
    plan.add_argument("--output", metavar="DIR", help="the run's output folder, to leave out what is there already")


def _init(options: argparse.Namespace) -> int:
    from rlcircuits.expectations import profile_for

    path = Path(options.file)
    if options.algorithm:
        profile_for(options.algorithm)
    values = {
        "before": _relative(options.before, path),
        "after": _relative(options.after, path),
        "algorithm": options.algorithm,
        # As in a pairs file: a question set is a name, unless it is a JSON lines file.
        "questions": _relative(options.questions, path)
        if (options.questions or "").endswith(".jsonl")
        else options.questions,
    }
    text = resources.files("rlcircuits").joinpath("templates", DEFAULT_FILE).read_text(encoding="utf-8")
    for key, value in values.items():
        if value:
            text = _with_value(text, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if options.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RLCircuitsError(f"{path} is there already; --force replaces it") from None
    print(f"{path}: edit it, then rlcircuits plan {path}")
    return HOLDS


def _with_value(text: str, key: str, value: str) -> str:
    """The pair's table with another value of a key, its comment left as it is."""
    lines = text.split("\n")
    start = lines.index("[[pair]]")
    for place, line in enumerate(lines[start:], start):
        if line.startswith(f"{key} = "):
            old = line.split('"')[1]
            lines[place] = line.replace(f'"{old}"', f'"{_escaped(value)}"', 1)
            break
    return "\n".join(lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _relative(value: str | None, file: Path) -> str | None:
    """A path that is there, as seen from the file's folder; anything else as it is."""
    if not value or not Path(value).exists():
        return value
    return Path(os.path.relpath(Path(value).resolve(), file.resolve().parent)).as_posix()


def _plan(options: argparse.Namespace) -> int:
    from rlcircuits.pairs import load_pairs_file
    from rlcircuits.plan import make_plan, show_plan

    file = load_pairs_file(options.file)
    print(show_plan(make_plan(file, file.make_settings(), options.output)))
    return HOLDS
