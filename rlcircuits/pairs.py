"""Which pairs to compare: one pair's description, and a TOML file of them.

[[pair]]
name = "llama-sums-grpo"
before = "llama-sums/sft"       # a folder, relative to this file, or a hub id
after = "llama-sums/grpo"
algorithm = "grpo"
questions = "arithmetic"        # the default

[pair.does_not_hold]            # directions that were measured and honestly do not hold, each with its numbers:
complexity = "2.86 → 2.87, p = 0.33"      # the test is expected to fail, and fails if it passes
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rlcircuits import questions as question_sets
from rlcircuits.errors import RLCircuitsError
from rlcircuits.expectations import profile_for

DEFAULT_QUESTIONS = "arithmetic"
GateMetric = Literal["intensity", "complexity", "kurtosis"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


class Pair(BaseModel):
    """Two checkpoints, what was done to get from one to the other, and what to ask them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Names the pair in tests and tables, and its folder of results: letters, digits and ._+-"""
    before: str
    """Folder or hub id of the checkpoint that training started from."""
    after: str
    """Folder or hub id of the checkpoint that it ended with."""
    algorithm: str
    """How it was trained; see :data:`rlcircuits.expectations.PROFILES`."""
    questions: str = Field(default=DEFAULT_QUESTIONS)
    """The question set's name."""
    does_not_hold: dict[GateMetric, str] = Field(default_factory=dict)
    """Metrics whose expected direction is known not to hold, each with the reason: a strict expected failure."""

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} names a folder too; use letters, digits and . _ + - only")
        return name

    @field_validator("before", "after")
    @classmethod
    def _given(cls, checkpoint: str) -> str:
        if not checkpoint.strip():
            raise ValueError("it is empty; a folder or a hub id is wanted")
        return checkpoint

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, algorithm: str) -> str:
        profile_for(algorithm)
        return algorithm.lower()

    @field_validator("questions")
    @classmethod
    def _known_questions(cls, name: str) -> str:
        if name not in question_sets.names():
            raise ValueError(f"unknown question set {name!r}; known: {', '.join(question_sets.names())}")
        return name


def make_pair(**fields: str) -> Pair:
    """Make a pair from its fields, with the errors of :func:`load_pairs` but for the file."""
    return _validated(fields, "the pair")


def pair_name(before: str, after: str) -> str:
    """Name a pair that has no name: ``base-to-grpo``, from the ends of its two paths."""
    ends = (re.sub(r"[^\w.+-]", "-", Path(checkpoint).name).strip("-.") or "model" for checkpoint in (before, after))
    return "-to-".join(ends)


def load_pairs(path: str | Path) -> tuple[Pair, ...]:
    """Read a pairs file. Folders are resolved against the file's own folder; a hub id stays as it is.

    Raises RLCircuitsError, naming file and key, where the file is missing or no TOML, has no pair, a key that
    is not known, a value that does not fit, a folder that is not there, or one name twice.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RLCircuitsError(f"{path}: there is no such file; a TOML file with [[pair]] tables is wanted") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RLCircuitsError(f"{path}: cannot be read as TOML: {error}") from None
    others = sorted(set(content) - {"pair"})
    if others:
        raise RLCircuitsError(f"{path}: unknown key {others[0]!r}; the file may hold [[pair]] tables only")
    tables = content.get("pair", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise RLCircuitsError(f"{path}: key 'pair' must be one or more [[pair]] tables")
    pairs: dict[str, Pair] = {}
    for place, table in enumerate(tables, start=1):
        where = f"{path}: pair {place}"
        pair = _validated(table, where)
        if pair.name in pairs:
            raise RLCircuitsError(f"{where}, key 'name': {pair.name!r} is the name of an earlier pair too")
        folders = {
            key: _resolve(getattr(pair, key), path.parent, f"{where}, key {key!r}") for key in ("before", "after")
        }
        pairs[pair.name] = pair.model_copy(update=folders)
    return tuple(pairs.values())


def _validated(table: dict[str, object] | dict[str, str], where: str) -> Pair:
    try:
        return Pair.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = {
            "extra_forbidden": f"unknown; known keys are {', '.join(Pair.model_fields)}",
            "missing": "missing",
            "string_type": f"must be a string, not {first['input']!r}",
            "literal_error": f"must be one of {', '.join(get_args(GateMetric))}, not {first['input']!r}",
        }.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise RLCircuitsError(f"{where}, key {key!r}: {reason}") from None


def _resolve(checkpoint: str, folder: Path, where: str) -> str:
    found = folder / Path(checkpoint).expanduser()
    if found.exists():
        return str(found.resolve())
    if _HUB_ID.fullmatch(checkpoint):
        return checkpoint
    raise RLCircuitsError(f"{where}: there is no folder {found}, and {checkpoint!r} cannot be a hub id either")
