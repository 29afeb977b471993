"""The pytest plugin's options, and how they keep out of the way of other people's.

pytest loads this plugin in every session of whoever installs rlcircuits. Each option therefore has a name of its
own, ``--rlcircuits-…``. The short names ``--before``, ``--after``, ``--algorithm``, ``--questions`` and ``--pairs``
are registered only once every other plugin and conftest.py has registered its options, only where they were
typed, and only where nobody else has them: a project that has its own ``--before`` keeps it.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest

INI_PAIRS = "rlcircuits_pairs"

_GIVEN_PAIRS: dict[str, dict[str, Any]] = {
    "before": {
        "metavar": "DIR",
        "help": "checkpoint before the training: a folder or a hub id. Write = before a path: pytest takes one after a "
        "space for a path of tests and may look for its configuration beside it",
    },
    "after": {"metavar": "DIR", "help": "checkpoint after it"},
    "algorithm": {"metavar": "NAME", "help": "how it was trained: grpo, ppo, dpo, sft, ..."},
    "questions": {"metavar": "SET", "help": "question set, or a JSON lines file (default: arithmetic, a toy)"},
    "pairs": {"metavar": "FILE.toml", "help": f"many pairs; default: the ini option {INI_PAIRS}"},
}

SETTINGS: dict[str, dict[str, Any]] = {
    "k": {"type": int, "metavar": "K", "help": "questions compared (200)"},
    "alpha": {"type": float, "help": "share of the answer length that is scored (0.3)"},
    "balance": {"type": float, "help": "how far two answer lengths may differ, as a share of their mean (0.5)"},
    "min-questions": {"type": int, "metavar": "N", "help": "fewer questions left to compare are an error (20)"},
    "score-on": {
        "choices": ("own", "before", "after", "gold"),
        "help": "whose answers are scored: each model's own (the default), or the same ones by both models",
    },
    "noise-draws": {"type": int, "metavar": "N", "help": "draws of the noise control, 0 for none (3)"},
    "question-count": {"type": int, "metavar": "N", "help": "questions asked (400)"},
    "temperature": {"type": float, "help": "of sampling, 0 is greedy (1)"},
    "top-p": {"type": float, "help": "of sampling (1)"},
    "sampling-seed": {"type": int, "metavar": "SEED", "help": "of sampling (42)"},
    "max-new-tokens": {"type": int, "metavar": "N", "help": "longest answer (as the question set needs)"},
    "n": {"type": int, "metavar": "N", "help": "answers to every question (1)"},
    "engine": {"help": "what generates answers: transformers (the default) or vllm"},
    "batch-size": {"type": int, "metavar": "N", "help": "answers written at once (64)"},
    "batch-tokens": {"type": int, "metavar": "N", "help": "token budget of an attribution batch"},
    "max-unfinished": {
        "type": float,
        "metavar": "SHARE",
        "help": "of first answers without an end, above which a pair is stopped (0.5)",
    },
    "no-stop-early": {
        "action": "store_false",
        "default": None,
        "help": "go on where the first answers are all wrong or too many of them unfinished",
    },
    "recompute": {
        "action": "store_true",
        "default": None,
        "help": "run blocks again in the backward: less memory, the same scores",
    },
    "granularity": {"choices": ("sublayer", "head", "kv-head"), "help": "of the graph (sublayer)"},
    "device": {"help": "torch device (the best there is)"},
    "dtype": {"help": "of the weights: float32, bfloat16, ... (the checkpoint's own)"},
    "trust-remote-code": {
        "action": "store_true",
        "default": None,
        "help": "run the Python code that a checkpoint's repository brings along (none is run)",
    },
}
"""The options that a pairs file's ``[settings]`` has too; what is typed goes before what is written."""

_OF_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "sampling_seed": "seed",
    "max_new_tokens": "max_new_tokens",
    "n": "n",
}

_SHORT_NAMES = pytest.StashKey[frozenset[str]]()
"""The short names that are ours in this session."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options that say which pairs to measure, and how."""
    short = ", ".join(f"--{name}" for name in _GIVEN_PAIRS)
    title = f"RL circuits: compare two checkpoints ({short} will do, where nobody else has an option of that name)"
    group = parser.getgroup("rlcircuits", title)
    for name, kwargs in (_GIVEN_PAIRS | SETTINGS).items():
        group.addoption(f"--rlcircuits-{name}", dest=dest(name), **kwargs)
    group.addoption(
        "--rlcircuits-output",
        metavar="DIR",
        help="keep each pair's answers, scores and comparison in DIR/<pair>, and go on from there (nothing is kept)",
    )
    parser.addini(INI_PAIRS, "pairs file used where no pair is given, relative to the root folder")


def dest(name: str) -> str:
    """What pytest keeps the option of this name under."""
    return f"rlcircuits_{name.replace('-', '_')}"


def option(config: pytest.Config, name: str) -> Any:
    """The value of one of our options."""
    return config.getoption(dest(name))


def empty_option(config: pytest.Config) -> str | None:
    """The name of an option of ours that was given an empty value; None where none was."""
    for name in (*_GIVEN_PAIRS, *SETTINGS, "output"):
        value = option(config, name)
        if isinstance(value, str) and not value.strip():
            return name_of(config, name) if name in _GIVEN_PAIRS else f"--rlcircuits-{name}"
    return None


def typed_settings(config: pytest.Config) -> dict[str, Any]:
    """The settings given as options, by their names among the settings."""
    given = {name.replace("-", "_"): option(config, name) for name in SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    if "no_stop_early" in given:
        given["stop_early"] = given.pop("no_stop_early")
    sampling = {_OF_SAMPLING[name]: given.pop(name) for name in _OF_SAMPLING if name in given}
    return {**given, **({"sampling": sampling} if sampling else {})}


def look_for_tests_as_ever(config: pytest.Config, args: list[str]) -> None:
    """Let pytest look for conftest.py files where it would without a checkpoint after ``--before`` and a space.

    pytest does not know the short names yet, and takes such a value for the path of tests.
    """
    known = config.known_args_namespace
    short = {f"--{name}" for name in _GIVEN_PAIRS}
    values = {value for name, value in pairwise(args) if name in short}
    if known.file_or_dir and values.issuperset(known.file_or_dir):
        here = config.invocation_params.dir == config.rootpath
        known.file_or_dir = [*((here and config.getini("testpaths")) or ["."]), *known.file_or_dir]


def take_short_names(config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Register the short names that were typed and that nobody else has; called when all others have registered."""
    # An argument with @ names a file of arguments.
    if not any(argument.startswith(("@", *(f"--{name}" for name in _GIVEN_PAIRS))) for argument in args):
        return
    try:
        known, unknown = parser.parse_known_and_unknown_args(args, copy.copy(config.option))
    except pytest.UsageError:
        return  # pytest is about to say the same
    # An unknown option with a space in its value is taken for a path.
    typed = {argument.partition("=")[0] for argument in (*unknown, *map(str, known.file_or_dir))}
    ours = frozenset(name for name in _GIVEN_PAIRS if f"--{name}" in typed)
    for name in ours:
        parser.getgroup("rlcircuits").addoption(f"--{name}", dest=dest(name), **_GIVEN_PAIRS[name])
    config.stash[_SHORT_NAMES] = ours


def name_of(config: pytest.Config, name: str) -> str:
    """How to write an option: in short, unless the project or another plugin has that name."""
    return f"--rlcircuits-{name}" if _belongs_to_another(config, name) else f"--{name}"


def hint(config: pytest.Config, typed_only: bool = False) -> str:
    """Say which short names are not ours in this session, to stand behind a line; nothing where all are.

    typed_only: leave out those that were not typed on the command line.
    """
    typed = {argument.partition("=")[0] for argument in config.invocation_params.args}
    names = [name for name in _GIVEN_PAIRS if not typed_only or f"--{name}" in typed]
    others = [name for name in names if _belongs_to_another(config, name)]
    if not others:
        return ""
    theirs, ours = (", ".join(f"--{prefix}{name}" for name in others) for prefix in ("", "rlcircuits-"))
    return f"; this project or another plugin has a {theirs} of its own, so write {ours} here"


def _belongs_to_another(config: pytest.Config, name: str) -> bool:
    return name not in config.stash.get(_SHORT_NAMES, ()) and config.getoption(f"--{name}", _ABSENT) is not _ABSENT


_ABSENT = object()
