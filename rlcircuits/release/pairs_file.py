"""Which pairs to compare: one pair's description, and a TOML file of them with the settings of their run.

[settings]                      # optional: the fields of rlcircuits.Settings
k = 100
[settings.sampling]
max_new_tokens = 512
n = 4                           # answers to every question; 1 by default

[[questions]]                   # optional: question sets other than those that come with rlcircuits
name = "ours"
file = "ours.jsonl"             # relative to this file
question = "problem"            # the fields' names
answer = "solution"
gold = "boxed"
max_new_tokens = 2048           # by default as its set needs, 512 for one of your own

[[pair]]
name = "release"
before = "checkpoints/sft"      # a folder, relative to this file, or a hub id
after = "checkpoints/grpo"
algorithm = "grpo"              # or profile = "online-rl", or both
questions = ["gsm8k", "ours"]   # one or several; arithmetic by default

[pair.does_not_hold]            # what was measured and honestly does not hold, each with its numbers:
complexity = "2.86 → 2.87, p = 0.33"      # the test is expected to fail, and fails if it passes
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from rlcircuits.answers.prompting import Prompting
from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import LONGEST_NAME
from rlcircuits.common.input_files import read_text
from rlcircuits.common.limits import LIMITS
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.common.validation import StrictModel, describe_error
from rlcircuits.comparison.profiles import Profile, profile_for, profile_named
from rlcircuits.questions.source import QuestionSource, plain_name

if TYPE_CHECKING:
    from rlcircuits.checkpoints.source import CheckpointSource
    from rlcircuits.release.settings import Settings

STORE = "store"
"""The folder of an output folder in which answers and scores are kept as they are made; no pair's."""

Measure = Literal["intensity", "complexity", "kurtosis", "accuracy", "not-online-rl"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_Table = TypeVar("_Table", bound=BaseModel)


class AskedQuestions(QuestionSource):
    """A question set, and how much of it is asked."""

    count: int | None = Field(default=None, ge=1, le=int(LIMITS["question_count"].most), strict=True)
    """Questions asked, drawn with a fixed seed. None: the settings' question_count."""


class Pair(StrictModel):
    """Two checkpoints, what was done to get from one to the other, and what to ask them.

    Raises RLCircuitsError naming the key for one that is unknown or does not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Names the pair in tests and tables, and its folder of results: letters, digits and ._+-, but not ``store``"""
    before: str
    """Folder or hub id of the checkpoint that training started from."""
    after: str
    """Folder or hub id of the checkpoint that it ended with; a LoRA adapter is merged into its base."""
    profile: str | None = None
    """Name of the profile that the pair is held against, where it is not the algorithm's."""
    algorithm: str = Field(default="", validate_default=True)
    """How it was trained; see :data:`rlcircuits.PROFILES`. Where a profile is given, any name or none."""
    revision_before: str | None = None
    """Branch, tag or commit, of a hub id."""
    revision_after: str | None = None
    dtype: str | None = None
    """Of the weights; None: the settings'."""
    device_map: str | None = None
    """How to split the models over devices (``auto``, …); None: one device."""
    questions: AskedQuestions = Field(default=defaults.QUESTIONS, validate_default=True)  # type: ignore[assignment]
    """The question set; its name alone where that says all, or a JSON lines file."""
    prompting: Prompting | None = None
    """How the pair's questions become prompts; None: the settings'."""
    recorded_before: Path | None = None
    """A file of answers that before gave already (see :mod:`rlcircuits.answers.recorded`); it is then not asked."""
    recorded_after: Path | None = None
    """The same of after; the same file where it holds both."""
    does_not_hold: dict[Measure, str] = Field(default_factory=dict)
    """Measures whose assertion is known not to hold, each with the reason: a strict expected failure."""

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if plain_name(name, "a folder").casefold() == STORE:
            raise ValueError(f"{name!r} is the folder in which answers and scores are kept; use another name")
        return name

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, dtype: str | None) -> str | None:
        if dtype is not None:
            from rlcircuits.models.dtypes import torch_dtype

            torch_dtype(dtype)
        return dtype

    @field_validator("before", "after")
    @classmethod
    def _given(cls, checkpoint: str) -> str:
        if not checkpoint.strip():
            raise ValueError("it is empty; a folder or a hub id is wanted")
        return checkpoint

    @field_validator("questions", mode="before")
    @classmethod
    def _by_name(cls, questions: object) -> object:
        return _question_fields(questions) if isinstance(questions, str) else questions

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, profile: str | None) -> str | None:
        return None if profile is None else profile_named(profile).name

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, algorithm: str, info: ValidationInfo) -> str:
        profile = info.data.get("profile")
        if profile is not None:
            return algorithm.lower() or profile
        if not algorithm:
            raise ValueError("missing; say how the pair was trained, or name a profile to hold it against")
        profile_for(algorithm)
        return algorithm.lower()

    @model_validator(mode="after")
    def _asserted(self) -> Pair:
        for measure in self.does_not_hold:
            if measure not in self.expectations.asserted:
                raise ValueError(
                    f"does_not_hold names {measure}, of which the profile {self.expectations.name!r} asserts nothing"
                )
        return self

    @property
    def asks_by_default(self) -> bool:
        """Whether no question set was named, and the default is asked."""
        return "questions" not in self.model_fields_set

    @property
    def expectations(self) -> Profile:
        """What the pair is held against: the profile named, else the algorithm's."""
        return profile_for(self.algorithm) if self.profile is None else profile_named(self.profile)

    @validate_arguments
    def sources(
        self, device: str | None = None, dtype: str | None = None, trust_remote_code: bool = False
    ) -> tuple[CheckpointSource, CheckpointSource]:
        """Before and after, as what can be loaded. `device` and `dtype` where the pair names none of its own."""
        from rlcircuits.checkpoints.source import CheckpointSource

        dtype, device = self.dtype or dtype, None if self.device_map else device
        how = (dtype, device, self.device_map, trust_remote_code)
        before = CheckpointSource(self.before, self.revision_before, *how)
        return before, CheckpointSource(self.after, self.revision_after, *how)


@dataclass(frozen=True)
class PairsFile:
    """What a pairs file says: its pairs, one a question set, and the settings of the run."""

    pairs: tuple[Pair, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """As written; what is not written is for :func:`rlcircuits.release.settings.make_settings` to fill in."""
    path: Path | None = None

    def __repr__(self) -> str:
        place = [elided_repr(str(self.path))] if self.path else []
        return short_repr(self, format_count(len(self.pairs), "pair"), *place)

    def make_settings(self, options: Mapping[str, Any] = MappingProxyType({})) -> Settings:
        """The settings of the run: the file's, but for those of `options`, which was typed."""
        from rlcircuits.release.settings import make_settings, merge_tables

        where = f"{self.path}: [settings]" if self.path else "the settings"
        make_settings(self.settings, where)
        return make_settings(merge_tables(self.settings, options))


def make_pair(**fields: object) -> Pair:
    """Make a pair from its fields, with the errors of :func:`load_pairs` but for the file."""
    return _validated(Pair, fields, "the pair")


def asked_questions(questions: str) -> AskedQuestions:
    """The question set of this name, or that of a JSON lines file."""
    return _validated(AskedQuestions, _question_fields(questions), f"questions {questions!r}")


def pair_name(before: str, after: str) -> str:
    """Name a pair that has no name: ``base-to-grpo``, from the ends of its two paths."""
    return "-to-".join(_made_up_name(Path(checkpoint).name, "model") for checkpoint in (before, after))


@validate_arguments
def load_pairs(path: str | Path) -> tuple[Pair, ...]:
    """Read the pairs of a pairs file; see :func:`load_pairs_file`."""
    return load_pairs_file(path).pairs


@validate_arguments
def load_pairs_file(path: str | Path) -> PairsFile:
    """Read a pairs file. Folders and files are resolved against its own folder; a hub id stays as it is.

    A pair with several question sets becomes one for each, ``<name>-<question set>``, and its ``does_not_hold``
    may then hold a table for each question set.

    Raises RLCircuitsError, naming file and key, where the file is missing or no TOML, has no pair, a key that
    is not known, a value that does not fit, a folder that is not there, or one name twice.
    """
    path = Path(path)
    content = _read_toml(path)
    others = sorted(set(content) - {"settings", "questions", "pair"})
    if others:
        raise RLCircuitsError(
            f"{path}: unknown key {others[0]!r}; the file may hold [settings], [[questions]] and [[pair]] tables"
        )
    settings = content.get("settings", {})
    if not isinstance(settings, dict):
        raise RLCircuitsError(f"{path}: key 'settings' must be one [settings] table")
    known: dict[str, AskedQuestions] = {}
    for place, table in enumerate(_tables(content.get("questions", []), path, "questions"), start=1):
        where = f"{path}: questions {place}"
        asked = _validated(AskedQuestions, table, where)
        asked = asked.model_copy(update={"file": _file(asked.file, path.parent, f"{where}, key 'file'")})
        if asked.name in known:
            raise RLCircuitsError(f"{where}, key 'name': {asked.name!r} is the name of an earlier question set too")
        known[asked.name] = asked
    pairs: dict[str, Pair] = {}
    tables = _tables(content.get("pair", []), path, "pair")
    if not tables:
        raise RLCircuitsError(f"{path}: key 'pair' must be one or more [[pair]] tables")
    for place, table in enumerate(tables, start=1):
        where = f"{path}: pair {place}"
        for one in _one_a_question_set(table, known, where):
            pair = _validated(Pair, one, where)
            if pair.questions.file is not None and pair.questions.name not in known:
                file = _file(pair.questions.file, path.parent, f"{where}, key 'questions'")
                pair = pair.model_copy(update={"questions": pair.questions.model_copy(update={"file": file})})
            if pair.name in pairs:
                raise RLCircuitsError(f"{where}, key 'name': {pair.name!r} is the name of an earlier pair too")
            folders = {
                key: resolve_checkpoint(getattr(pair, key), path.parent, f"{where}, key {key!r}")
                for key in ("before", "after")
            }
            files = {
                key: _file(getattr(pair, key), path.parent, f"{where}, key {key!r}")
                for key in ("recorded_before", "recorded_after")
            }
            pairs[pair.name] = pair.model_copy(update={**folders, **files})
    found = PairsFile(tuple(pairs.values()), settings, path)
    if settings:
        found.make_settings()
    return _with_lengths_by_set(found)


def _with_lengths_by_set(file: PairsFile) -> PairsFile:
    """Where a question set says its ``max_new_tokens``, let that of ``[settings.sampling]`` be the other sets'.

    So a set's own goes before the file's, and what is typed, which stands among the settings, before both.
    """
    sampling = dict(file.settings.get("sampling", {}))
    if "max_new_tokens" not in sampling or all(pair.questions.max_new_tokens is None for pair in file.pairs):
        return file
    of_others = {"max_new_tokens": sampling.pop("max_new_tokens")}
    pairs = tuple(
        pair
        if pair.questions.max_new_tokens is not None
        else pair.model_copy(update={"questions": pair.questions.model_copy(update=of_others)})
        for pair in file.pairs
    )
    return PairsFile(pairs, {**file.settings, "sampling": sampling}, file.path)


def _read_toml(path: Path) -> dict[str, Any]:
    if not os.path.exists(path):
        raise RLCircuitsError(f"{path}: there is no such file; a TOML file with [[pair]] tables is wanted")
    text = read_text(path, "TOML")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
    except RecursionError:
        reason = "it holds too many lists or tables within one another"
    except ValueError:  # tomllib has no error of its own for it
        reason = f"it holds a whole number of more than {sys.get_int_max_str_digits():,} digits"
    raise RLCircuitsError(f"{path}: cannot be read as TOML: {reason}")


def _question_fields(questions: str) -> dict[str, object]:
    if questions.endswith(".jsonl"):
        return {"name": _made_up_name(Path(questions).stem, "questions"), "file": questions}
    return {"name": questions}


def _made_up_name(text: str, kind: str) -> str:
    """A name that can be one of a folder: the text without what cannot be in it, after ``kind`` where need be."""
    name = re.sub(r"[^\w.+-]", "-", text).strip("-.").lstrip("-._+")
    # A third of what a name may have: a pair's is made of two of these and more.
    name = name.encode()[: LONGEST_NAME // 3].decode(errors="ignore").rstrip("-.")
    return name if re.match("[A-Za-z0-9]", name) else f"{kind}-{name}".rstrip("-")


def _tables(found: object, path: Path, key: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise RLCircuitsError(f"{path}: key {key!r} must be one or more [[{key}]] tables")
    return found


def _file(file: Path | None, folder: Path, where: str) -> Path | None:
    if file is None:
        return None
    found = folder / file.expanduser()
    if not os.path.isfile(found):
        raise RLCircuitsError(f"{where}: there is no file {found}")
    return found.resolve()


def _one_a_question_set(
    table: dict[str, Any], known: Mapping[str, AskedQuestions], where: str
) -> Iterable[dict[str, Any]]:
    """The pair's table for each of its question sets: their names replaced by what the file says of them."""
    asked = table.get("questions", defaults.QUESTIONS)
    sets = [asked] if isinstance(asked, str) else asked
    if not isinstance(sets, list) or not sets or not all(isinstance(name, str) for name in sets):
        raise RLCircuitsError(f"{where}, key 'questions': must be a question set's name or a list of names")
    if len(set(sets)) < len(sets):
        raise RLCircuitsError(f"{where}, key 'questions': names one set twice")
    reasons = table.get("does_not_hold", {})
    if not isinstance(reasons, dict):
        raise RLCircuitsError(f"{where}, key 'does_not_hold': must be a table")
    several = len(sets) > 1
    for other in sorted(name for name, reason in reasons.items() if isinstance(reason, dict) and name not in sets):
        raise RLCircuitsError(
            f"{where}, key 'does_not_hold.{other}': {other!r} is not among the pair's question sets, {', '.join(sets)}"
        )
    for name in sets:
        own = reasons.get(name, {})
        everywhere = {measure: reason for measure, reason in reasons.items() if measure not in sets}
        one = {**table, "does_not_hold": {**everywhere, **own}}
        if "questions" in table or name in known:
            one["questions"] = known.get(name, name)
        if several and isinstance(table.get("name"), str):
            one["name"] = f"{table['name']}-{name}"
        yield one


def _validated(model: type[_Table], table: Mapping[str, object], where: str) -> _Table:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise RLCircuitsError(f"{where}{describe_error(error, model.model_fields)}") from None


def resolve_checkpoint(checkpoint: str, folder: Path, where: str) -> str:
    """The whole path of a folder named from ``folder``, or a hub id as it is.

    Raises RLCircuitsError, which begins with ``where``, for what is neither.
    """
    found = folder / Path(checkpoint).expanduser()
    # Which, as a method does not, says no to a name that is too long too.
    if os.path.exists(found):
        return str(found.resolve())
    if _HUB_ID.fullmatch(checkpoint):
        return checkpoint
    raise RLCircuitsError(f"{where}: there is no folder {found}, and {checkpoint!r} cannot be a hub id either")
