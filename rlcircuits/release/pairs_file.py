"""Read a pairs file: a TOML file with the pairs of a release and the settings of their run.

    [settings]                      # optional: the fields of rlcircuits.Settings
    question_count = 800            # questions asked; 400 by default. All that pass the protocol are compared
    [settings.sampling]
    max_new_tokens = 512
    n = 8                           # answers to every question; 4 by default

    [circuits]                      # optional: what is asserted of every pair's circuits, which are then measured
    minimum_overlap = 0.8           # as a share of the overlap that noise leaves
    minimum_faithfulness = 0.5      # of before's circuit in after

    [signs]                         # optional: which vital signs may fail the release, and the team's own thresholds
    gate = ["accuracy", "pass@k"]
    thresholds.unfinished = {up = 0.05}

    [[questions]]                   # optional: question sets other than those that come with rlcircuits
    name = "ours"
    file = "ours.jsonl"             # relative to this file
    question = "problem"            # the fields' names
    answer = "solution"
    gold = "boxed"
    max_new_tokens = 2048           # by default the set's own limit; 512 for a set from a file

    [[pair]]
    name = "release"
    before = "checkpoints/sft"      # a folder, relative to this file, or a hub id
    after = "checkpoints/grpo"
    algorithm = "grpo"              # or profile = "online-rl", or both
    questions = ["gsm8k", "ours"]   # one or several; arithmetic by default
    accuracy = "not-inferior"       # optional: another rule for accuracy than the profile's, and its margin
    margin = 0.02
    claimed_accuracy = 0.97         # optional: what the release states of after's accuracy; or
    reference = "checkpoints/last"  # a checkpoint whose accuracy it must not be below
    control = "checkpoints/more"    # optional: trained from before without RL; an effect counts only beyond its own
    pool = "grpo"                   # optional: the pairs that share it are pooled in a table

    circuits.minimum_overlap = 0.5  # optional: the pair's own keys of [circuits]; circuits = false for nothing

    [pair.does_not_hold]            # assertions that are known to fail, each with its numbers:
    complexity = "2.86 → 2.87, negligible"    # the test is a strict expected failure

Reading takes four steps:

1. parse: TOML to five kinds of tables (:func:`parse_tables`), ``[circuits]`` into the pairs (:func:`_with_circuits`);
2. multiply: one table of a pair for each of its question sets (:func:`_multiply`);
3. resolve: names of question sets to their tables, relative paths to absolute ones (:func:`_resolve`);
4. default: the file's `max_new_tokens` for the question sets that name none (:func:`_default_lengths`).
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rlcircuits.common import defaults
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.input_files import read_text
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.option import toml_value
from rlcircuits.release.pair import AskedQuestions, Pair, validate_table

if TYPE_CHECKING:
    from rlcircuits.release.settings import Settings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")

_CHECKPOINTS = ("before", "revision_before", "after", "revision_after")
"""Keys that say which checkpoints a pair has."""

_Table = dict[str, Any]


@dataclass(frozen=True)
class PairsFile:
    """The pairs of a file, one for each question set, and the settings of their run."""

    pairs: tuple[Pair, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings that the file gives; :func:`rlcircuits.release.settings.make_settings` adds the defaults."""
    path: Path | None = None
    signs: Mapping[str, Any] | None = None
    """The table ``[signs]``, which :class:`rlcircuits.release.sign_rules.SignRules` reads."""

    def __repr__(self) -> str:
        place = [elided_repr(str(self.path))] if self.path else []
        return short_repr(self, format_count(len(self.pairs), "pair"), *place)

    @property
    def pools(self) -> dict[str, list[str]]:
        """Return the names of the pairs by the pool that they share."""
        found: dict[str, list[str]] = {}
        for pair in self.pairs:
            if pair.pool is not None:
                found.setdefault(pair.pool, []).append(pair.name)
        return found

    def only(self, patterns: Collection[str] | None, flag: str = "--only") -> PairsFile:
        """Return the file with only the pairs whose name matches one of some patterns, such as ``*-grpo``.

        Args:
            patterns: shell patterns; None for all pairs.
            flag: the option that gives them, for the message.

        Raises:
            RLCircuitsError: a pattern matches no pair.
        """
        if patterns is None:
            return self
        names = [pair.name for pair in self.pairs]
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                where = f" of {self.path}" if self.path else ""
                raise RLCircuitsError(f"{flag} {pattern} matches no pair{where}, which has {', '.join(names)}")
        kept = tuple(pair for pair in self.pairs if any(fnmatch.fnmatch(pair.name, each) for each in patterns))
        return replace(self, pairs=kept)

    def make_settings(self, options: Mapping[str, Any] = MappingProxyType({})) -> Settings:
        """Return the settings of the run.

        Args:
            options: settings from the command line, which override the file's.
        """
        from rlcircuits.release.settings import check_noise_for_signs, make_settings, merge_tables  # imports torch

        where = f"{self.path}: [settings]" if self.path else "the settings"
        make_settings(self.settings, where)
        settings = make_settings(merge_tables(self.settings, options))
        if self.signs is not None:
            check_noise_for_signs(settings, where, "take the table [signs] away")
        return settings


@validate_arguments
def load_pairs(path: str | Path) -> tuple[Pair, ...]:
    """Return the pairs of a pairs file.

    Raises:
        RLCircuitsError: as :func:`load_pairs_file`.
    """
    return load_pairs_file(path).pairs


@validate_arguments
def load_pairs_file(path: str | Path) -> PairsFile:
    """Read a pairs file.

    Folders and files are relative to the file's own folder; a hub id stays as it is. A pair with several question sets
    becomes one pair for each, named ``<name>-<question set>``. Its ``does_not_hold`` may then hold a table for each
    question set.

    Raises:
        RLCircuitsError: the file is missing or is not TOML, it has no pair, a key is unknown, a value does not fit, a
            folder or file does not exist, or two pairs or question sets have one name. The message names file and key.
    """
    path = Path(path)
    return make_pairs_file(parse_tables(path), path)


def make_pairs_file(tables: PairsTables, path: Path) -> PairsFile:
    """Return the pairs of a file's tables, as :func:`load_pairs_file` does."""
    known = _question_sets(tables, path)
    if not tables.pairs:
        raise RLCircuitsError(f"{path}: key 'pair' must be one or more [[pair]] tables")
    pairs: dict[str, Pair] = {}
    for place, table in enumerate(tables.pairs, start=1):
        where = f"{path}: pair {place}"
        if "before" in table and "after" not in table and table.keys() <= Pair.model_fields.keys():  # none is misspelt
            raise RLCircuitsError(f"{where}, key 'after': missing; only templates of rlcircuits watch have none")
        for one in _multiply(_with_circuits(table, tables.circuits), known, where):
            pair = validate_table(Pair, one, where)
            if pair.name in pairs:
                raise RLCircuitsError(f"{where}, key 'name': {pair.name!r} is the name of an earlier pair too")
            pairs[pair.name] = _resolve(pair, known, path.parent, where)
            _check_pool(pairs[pair.name], pairs.values(), where)
    _check_asked(known, pairs.values(), path)
    file = PairsFile(tuple(pairs.values()), tables.settings, path, tables.signs)
    if file.settings:
        file.make_settings()
    return _default_lengths(file)


def resolve_checkpoint(checkpoint: str, folder: Path, where: str) -> str:
    """Return the absolute path of a checkpoint's folder, or a hub id as it is.

    Args:
        checkpoint: a folder or a hub id.
        folder: the folder that a relative path starts from.
        where: what an error message begins with.

    Raises:
        RLCircuitsError: there is no such folder, and the name cannot be a hub id.
    """
    found = folder / Path(checkpoint).expanduser()
    # os.path.exists, unlike Path.exists, returns False for a name that is too long.
    if os.path.exists(found):
        return str(found.resolve())
    if _HUB_ID.fullmatch(checkpoint):
        return checkpoint
    raise RLCircuitsError(f"{where}: there is no folder {found}, and {checkpoint!r} cannot be a hub id either")


@dataclass(frozen=True)
class PairsTables:
    """The tables of a pairs file, as TOML."""

    settings: _Table
    circuits: _Table | None
    signs: _Table | None
    questions: list[_Table]
    pairs: list[_Table]


def parse_tables(path: Path) -> PairsTables:
    """Return the file's tables. Raises RLCircuitsError for an unknown or misplaced table."""
    content = _read_toml(path)
    if unknown := sorted(set(content) - {"settings", "circuits", "signs", "questions", "pair"}):
        allowed = "[settings], [circuits], [signs], [[questions]] and [[pair]] tables"
        raise RLCircuitsError(f"{path}: unknown key {unknown[0]!r}; the file may hold {allowed}")
    settings, circuits = content.get("settings", {}), content.get("circuits")
    if not isinstance(settings, dict):
        raise RLCircuitsError(f"{path}: key 'settings' must be one [settings] table")
    if not isinstance(circuits, dict | None):
        raise RLCircuitsError(f"{path}: key 'circuits' must be one [circuits] table")
    if circuits is not None:
        validate_table(CircuitRules, circuits, f"{path}: [circuits]")
    if (signs := content.get("signs")) is not None:
        _check_signs(signs, path)
    questions, pairs = (_array_of_tables(content.get(key, []), path, key) for key in ("questions", "pair"))
    return PairsTables(settings, circuits, signs, questions, pairs)


def _check_signs(signs: object, path: Path) -> None:
    from rlcircuits.release.sign_rules import SignRules  # here, since it imports numpy and scipy

    if not isinstance(signs, dict):
        raise RLCircuitsError(f"{path}: key 'signs' must be one [signs] table")
    validate_table(SignRules, signs, f"{path}: [signs]")


def _read_toml(path: Path) -> _Table:
    if not os.path.exists(path):
        raise RLCircuitsError(f"{path}: there is no such file; a TOML file with [[pair]] tables is wanted")
    text = read_text(path, "TOML")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
    except RecursionError:
        reason = "it holds too many lists or tables within one another"
    except ValueError:  # raised by Python's int, which tomllib does not catch
        reason = f"it holds a whole number of more than {sys.get_int_max_str_digits():,} digits"
    raise RLCircuitsError(f"{path}: cannot be read as TOML: {reason}")


def _array_of_tables(found: object, path: Path, key: str) -> list[_Table]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise RLCircuitsError(f"{path}: key {key!r} must be one or more [[{key}]] tables")
    return found


def _question_sets(tables: PairsTables, path: Path) -> dict[str, AskedQuestions]:
    """Return the question sets that the file defines, by name, with their files' absolute paths."""
    known: dict[str, AskedQuestions] = {}
    for place, table in enumerate(tables.questions, start=1):
        where = f"{path}: questions {place}"
        asked = validate_table(AskedQuestions, table, where)
        asked = asked.model_copy(update={"file": _resolve_file(asked.file, path.parent, f"{where}, key 'file'")})
        if asked.name in known:
            raise RLCircuitsError(f"{where}, key 'name': {asked.name!r} is the name of an earlier question set too")
        known[asked.name] = asked
    return known


def _check_asked(known: Mapping[str, AskedQuestions], pairs: Iterable[Pair], path: Path) -> None:
    """Raise RLCircuitsError for a question set that no pair asks: the pairs then ask other questions than was meant."""
    asked = {pair.questions.name for pair in pairs}
    if unasked := [name for name in known if name not in asked]:
        name, place = unasked[0], 1 + list(known).index(unasked[0])
        raise RLCircuitsError(
            f"{path}: questions {place}, key 'name': no pair asks {name!r}; pairs ask {', '.join(sorted(asked))}: name "
            f"it in a pair with questions = {toml_value(name)}, or take the table away"
        )


def _with_circuits(table: _Table, common: _Table | None) -> _Table:
    """Return a pair's table with the file's ``[circuits]``, of which its own keys and ``circuits = false`` go first."""
    own = table.get("circuits", True)
    if common is None or not (own is True or isinstance(own, dict)):
        return table
    return {**table, "circuits": common if own is True else {**common, **own}}


def _multiply(table: _Table, known: Mapping[str, AskedQuestions], where: str) -> Iterator[_Table]:
    """Yield a pair's table once for each of its question sets.

    Args:
        table: the pair's table, whose ``questions`` may be a list.
        known: the question sets that the file defines, which replace their names.
        where: what an error message begins with.
    """
    asked = table.get("questions", defaults.QUESTIONS)
    sets = [asked] if isinstance(asked, str) else asked
    if not isinstance(sets, list) or not sets or not all(isinstance(name, str) for name in sets):
        raise RLCircuitsError(f"{where}, key 'questions': must be a question set's name or a list of names")
    if len(set(sets)) < len(sets):
        raise RLCircuitsError(f"{where}, key 'questions': names one set twice")
    reasons = table.get("does_not_hold", {})
    if not isinstance(reasons, dict):
        raise RLCircuitsError(f"{where}, key 'does_not_hold': must be a table")
    for other in sorted(name for name, reason in reasons.items() if isinstance(reason, dict) and name not in sets):
        raise RLCircuitsError(
            f"{where}, key 'does_not_hold.{other}': {other!r} is not among the pair's question sets, {', '.join(sets)}"
        )
    for name in sets:
        if not isinstance(reasons.get(name, {}), dict):
            raise RLCircuitsError(f"{where}, key 'does_not_hold.{name}': must be a table")
    everywhere = {measure: reason for measure, reason in reasons.items() if measure not in sets}
    for name in sets:
        one = {**table, "does_not_hold": {**everywhere, **reasons.get(name, {})}}
        if "questions" in table or name in known:
            one["questions"] = known.get(name, name)
        if len(sets) > 1 and isinstance(table.get("name"), str):
            one["name"] = f"{table['name']}-{name}"
        yield one


def _resolve(pair: Pair, known: Mapping[str, AskedQuestions], folder: Path, where: str) -> Pair:
    """Return the pair with absolute paths. Those of `known` question sets are absolute already."""
    questions, resolved = pair.questions, dict[str, object]()
    if questions.file is not None and questions.name not in known:
        file = _resolve_file(questions.file, folder, f"{where}, key 'questions'")
        resolved["questions"] = questions.model_copy(update={"file": file})
    for key in ("before", "after", "reference", "control"):
        if (checkpoint := getattr(pair, key)) is not None:
            resolved[key] = resolve_checkpoint(checkpoint, folder, f"{where}, key {key!r}")
    if pair.profile is not None and pair.profile.endswith(".toml"):
        resolved["profile"] = str(_resolve_file(Path(pair.profile), folder, f"{where}, key 'profile'"))
    for key in ("recorded_before", "recorded_after"):
        resolved[key] = _resolve_file(getattr(pair, key), folder, f"{where}, key {key!r}")
    found = pair.model_copy(update=resolved)
    try:
        found.check_assertions()  # reads the profile's file
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{where}: {error}") from None
    return found


def _check_pool(pair: Pair, pairs: Collection[Pair], where: str) -> None:
    """Raise RLCircuitsError if a pair cannot be pooled with the other pairs of its pool."""
    for other in pairs:
        if pair.pool is None or other.pool != pair.pool or other is pair:
            continue
        if other.algorithm != pair.algorithm:
            raise RLCircuitsError(
                f"{where}, key 'pool': {pair.pool!r} has pair {other.name!r} of algorithm {other.algorithm!r}, and "
                f"this one is of {pair.algorithm!r}; pool pairs of one algorithm"
            )
        same_questions = other.questions.name == pair.questions.name
        if same_questions and all(getattr(other, key) == getattr(pair, key) for key in _CHECKPOINTS):
            raise RLCircuitsError(
                f"{where}, key 'pool': {pair.pool!r} has the same checkpoints on the same questions in pair "
                f"{other.name!r}; a repeated pair is not further evidence"
            )


def _resolve_file(file: Path | None, folder: Path, where: str) -> Path | None:
    if file is None:
        return None
    found = folder / file.expanduser()
    if not os.path.isfile(found):
        raise RLCircuitsError(f"{where}: there is no file {found}")
    return found.resolve()


def _default_lengths(file: PairsFile) -> PairsFile:
    """Give the ``max_new_tokens`` of ``[settings.sampling]`` to the question sets that name none.

    If any set of the file names one, the settings' moves there. The command line's, which is merged into the settings,
    then overrides the sets', and the sets' own override the file's.
    """
    sampling = dict(file.settings.get("sampling", {}))
    if "max_new_tokens" not in sampling or all(pair.questions.max_new_tokens is None for pair in file.pairs):
        return file
    default = {"max_new_tokens": sampling.pop("max_new_tokens")}
    pairs = tuple(
        pair
        if pair.questions.max_new_tokens is not None
        else pair.model_copy(update={"questions": pair.questions.model_copy(update=default)})
        for pair in file.pairs
    )
    return replace(file, pairs=pairs, settings={**file.settings, "sampling": sampling})
