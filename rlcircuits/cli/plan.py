"""The command line's first steps: ``init`` writes a pairs file, ``plan`` says what it would run."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from rlcircuits.cli.parts import BAD_INPUT, HOLDS, command, say_error, tell
from rlcircuits.common.errors import RLCircuitsError, truncated_repr

DEFAULT_FILE = "release.toml"
TEST_FILE = "test_release.py"
TEST = '''"""The release gate: every measure of every pair is as its training should make it."""


def test_effect(effect):
    assert effect.holds, effect.message
'''


def add_planning(commands: Any) -> None:
    """Add ``init`` and ``plan``."""
    written = f"write a commented pairs file to start from, and beside it {TEST_FILE}, which judges it in pytest"
    init = command(commands, "init", _init, written)
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
    from rlcircuits.common.files import ensure_writable_file, write_text_atomically
    from rlcircuits.comparison.profiles import profile_for

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
    # A name may hold bytes that are no letters.
    text = text.replace(DEFAULT_FILE, os.fsencode(path.name).decode(errors="replace"))
    for key, value in values.items():
        if value:
            text = _with_value(text, key, value)
    if path.exists() and not options.force:
        raise RLCircuitsError(f"{path} is there already; --force replaces it")
    write_text_atomically(ensure_writable_file(path, "FILE.toml"), text)
    print(f"{path}: edit it, then rlcircuits plan {path}")
    test = path.parent / TEST_FILE
    if not test.exists():  # one that is there may hold more tests
        test.write_text(TEST, encoding="utf-8")
    print(f"{test}: judges it in pytest, with pytest {test} --pairs={path}")
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
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RLCircuitsError(
            f"{truncated_repr(value)} has bytes that are no letters and cannot stand in the file"
        ) from None
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _relative(value: str | None, file: Path) -> str | None:
    """A path that is there, as seen from the file's folder; anything else as it is."""
    if not value or not Path(value).exists():
        return value
    return Path(os.path.relpath(Path(value).resolve(), file.resolve().parent)).as_posix()


def _plan(options: argparse.Namespace) -> int:
    from rlcircuits.release.pairs_file import load_pairs_file
    from rlcircuits.release.plan import make_plan, show_plan

    file = load_pairs_file(options.file)
    plan = make_plan(file, file.make_settings(), options.output, notify=tell)
    print(show_plan(plan))
    sys.stdout.flush()  # so that the errors stand below the tables where both go to one file
    missing = [model for model in plan.models if not model.can_be_had]
    for model in missing:
        say_error(f"checkpoint {model.name}: {model.problem}")
    return BAD_INPUT if missing else HOLDS
