"""The pytest plugin's options, and how they stay clear of the options of other plugins and projects.

pytest loads this plugin in every session of everyone who has rlcircuits installed. Each option therefore has a long
name, ``--rlcircuits-…``. The short names ``--before``, ``--after``, ``--algorithm``, ``--questions`` and ``--pairs``
are registered only if they are on the command line, only after every other plugin and conftest.py has registered its
options, and only if none of those has an option of that name: a project with its own ``--before`` keeps it.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest

from rlcircuits.release.options import OPTIONS, find_option, given_settings

INI_PAIRS = "rlcircuits_pairs"

SHORT_OPTIONS = (
    *(find_option(name, "pair") for name in ("before", "after", "algorithm", "questions")),
    find_option("pairs", None),
)
"""The options that have a short name besides the long one."""

LONG_OPTIONS = tuple(option for option in OPTIONS if option.in_pytest and option not in SHORT_OPTIONS)
"""The options that have a long name only."""

_SHORT_NAMES = tuple(option.flag for option in SHORT_OPTIONS)

_REGISTERED = pytest.StashKey[frozenset[str]]()
"""The short names that this session registered."""

_ABSENT = object()


def add_options(parser: pytest.Parser) -> None:
    """Add the options that say which pairs to measure, and how, under their long names."""
    short = ", ".join(f"--{name}" for name in _SHORT_NAMES)
    title = (
        f"RL circuits: compare two checkpoints ({short} will do, unless the project or another plugin has an option of "
        f"that name; write = before a path, since pytest takes a path after a space for one of tests)"
    )
    group = parser.getgroup("rlcircuits", title)
    for option in (*SHORT_OPTIONS, *LONG_OPTIONS):
        group.addoption(f"--rlcircuits-{option.flag}", dest=_dest(option.dest), **option.argparse_arguments())
    parser.addini(INI_PAIRS, "pairs file of a session to which no pair is given, relative to the root folder")


def option_value(config: pytest.Config, dest: str) -> Any:
    """Return an option's value by its :attr:`~rlcircuits.release.option.Option.dest`; None if it was not given."""
    return config.getoption(_dest(dest))


def find_empty_option(config: pytest.Config) -> str | None:
    """Return the name of an option that was given an empty value; None if there is none."""
    for option in (*SHORT_OPTIONS, *LONG_OPTIONS):
        value = option_value(config, option.dest)
        if isinstance(value, str) and not value.strip():
            return name_to_write(config, option.flag) if option in SHORT_OPTIONS else f"--rlcircuits-{option.flag}"
    return None


def settings_table(config: pytest.Config) -> dict[str, Any]:
    """Return the settings that were given as options, as a table like ``[settings]`` of a pairs file."""
    return given_settings(lambda option: option_value(config, option.dest) if option.in_pytest else None)


def keep_looking_for_tests(config: pytest.Config, args: list[str]) -> None:
    """Make pytest look for conftest.py files where it would without the values of the short names.

    pytest does not know the short names yet. It therefore takes the value in ``--before folder`` for a path of tests.
    """
    known = config.known_args_namespace
    short = {f"--{name}" for name in _SHORT_NAMES}
    values = {value for name, value in pairwise(args) if name in short}
    if known.file_or_dir and values.issuperset(known.file_or_dir):
        here = config.invocation_params.dir == config.rootpath
        known.file_or_dir = [*((here and config.getini("testpaths")) or ["."]), *known.file_or_dir]


def register_short_names(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Register the short names on the command line that no one else has; to be called when all others have theirs."""
    # An argument that begins with @ names a file of arguments.
    if not any(argument.startswith(("@", *(f"--{name}" for name in _SHORT_NAMES))) for argument in args):
        return
    try:
        known, unknown = parser.parse_known_and_unknown_args(args, copy.copy(config.option))
    except pytest.UsageError:
        return  # pytest is about to print the same error
    # argparse takes an unknown option with a space in its value for a path.
    typed = {argument.partition("=")[0] for argument in (*unknown, *map(str, known.file_or_dir))}
    ours = [option for option in SHORT_OPTIONS if f"--{option.flag}" in typed]
    for option in ours:
        arguments = option.argparse_arguments()
        parser.getgroup("rlcircuits").addoption(f"--{option.flag}", dest=_dest(option.dest), **arguments)
    config.stash[_REGISTERED] = frozenset(option.flag for option in ours)


def name_to_write(config: pytest.Config, short_name: str) -> str:
    """Return how to write an option: by its short name, unless the project or another plugin has that name."""
    return f"--rlcircuits-{short_name}" if _belongs_to_another(config, short_name) else f"--{short_name}"


def hint_at_long_names(config: pytest.Config, typed_only: bool = False) -> str:
    """Return a half sentence about the short names that belong to others; empty if there are none.

    Args:
        config: pytest's configuration.
        typed_only: leave out the names that are not on the command line.
    """
    typed = {argument.partition("=")[0] for argument in config.invocation_params.args}
    names = [name for name in _SHORT_NAMES if not typed_only or f"--{name}" in typed]
    others = [name for name in names if _belongs_to_another(config, name)]
    if not others:
        return ""
    theirs, ours = (", ".join(f"--{prefix}{name}" for name in others) for prefix in ("", "rlcircuits-"))
    return f"; this project or another plugin has a {theirs} of its own, so write {ours} here"


def _belongs_to_another(config: pytest.Config, short_name: str) -> bool:
    registered = config.stash.get(_REGISTERED, ())
    return short_name not in registered and config.getoption(f"--{short_name}", _ABSENT) is not _ABSENT


def _dest(dest: str) -> str:
    return f"rlcircuits_{dest}"
