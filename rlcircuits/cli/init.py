"""``rlcircuits init``: write a commented pairs file to start from, and the test that judges it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from rlcircuits.cli.command import add_command, add_option
from rlcircuits.cli.exit_codes import HOLDS
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.release.options import find_option

DEFAULT_FILE = "release.toml"
TEST_FILE = "test_release.py"
TEST = '''"""The release gate: every measure of every pair is as its training should make it."""


def test_effect(effect):
    assert effect.holds, effect.message
'''

_KEYS = ("before", "after", "algorithm", "questions")
"""Keys of the pair whose values options give."""


def add_init(commands: Any) -> None:
    """Add the command."""
    text = f"write a commented pairs file to start from, and beside it {TEST_FILE}, which judges it in pytest"
    init = add_command(commands, "init", _init, text)
    init.add_argument("file", nargs="?", default=DEFAULT_FILE, metavar="FILE.toml", help="(default: %(default)s)")
    for name in _KEYS:
        option = find_option(name, "pair")
        add_option(init, option, help=f"{option.description.replace('%', '%%')}; written into the file")
    init.add_argument("--force", action="store_true", help="replace a file that is there")


def _init(options: argparse.Namespace) -> int:
    from rlcircuits.common.files import ensure_writable_file, write_text_atomically
    from rlcircuits.comparison.profiles import profile_for
    from rlcircuits.release.template import pairs_file_template

    path = Path(options.file)
    if options.algorithm:
        profile_for(options.algorithm)
    given = {name: value for name in _KEYS if (value := getattr(options, name))}
    for name, value in given.items():
        _check_encodable(value)
        # A question set is a name, whatever file has that name, unless it is a JSON lines file.
        if name in ("before", "after") or (name == "questions" and value.endswith(".jsonl")):
            given[name] = _relative(value, path)
    # A file's name may hold bytes that are no text.
    text = pairs_file_template(os.fsencode(path.name).decode(errors="replace"), given)
    if path.exists() and not options.force:
        raise RLCircuitsError(f"{path} is there already; --force replaces it")
    write_text_atomically(ensure_writable_file(path, "FILE.toml"), text)
    print(f"{path}: edit it, then rlcircuits plan {path}")
    test = path.parent / TEST_FILE
    if not test.exists():  # an existing file may hold more tests
        test.write_text(TEST, encoding="utf-8")
    print(f"{test}: judges it in pytest, with pytest {test} --pairs={path}")
    return HOLDS


def _check_encodable(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RLCircuitsError(
            f"{truncated_repr(value)} has bytes that are no text and cannot stand in the file"
        ) from None


def _relative(value: str, file: Path) -> str:
    """Return an existing path as seen from the file's folder, and any other value unchanged."""
    if not Path(value).exists():
        return value
    return Path(os.path.relpath(Path(value).resolve(), file.resolve().parent)).as_posix()
