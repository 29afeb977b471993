"""Save and load comparisons as JSON.

The file holds ``format`` and ``version``; the ``comparison`` with every question's values, so that it can be shown and
plotted again without a model; the ``key``, a hash of everything it was made from, so that it need not be made again;
and the ``verdict`` for other programs to read. The verdict is never read back: it follows from the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from rlcircuits.answers.recorded import SIDES
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import ANSWERS_SUFFIX, write_text_atomically
from rlcircuits.common.files import COMPARISON_FILE as FILE_NAME
from rlcircuits.common.input_files import read_text
from rlcircuits.common.json_files import parse_json_object
from rlcircuits.common.validation import describe_error
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.consistency import check_comparison
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import current_name
from rlcircuits.comparison.verdict import Verdict, judge, reads_as_online_rl

_FORMAT: Literal["rlcircuits-comparison"] = "rlcircuits-comparison"
VERSION: Literal[5] = 5
"""Of the files that are written; 4 lacks `requested`, 3 all that has a default in Comparison."""

_VERSIONS = (3, 4, 5)

RULE_SINCE = 4
"""The first version whose verdict follows today's rule."""
_UNFINISHED = (
    f"holds a pair's answers and no {FILE_NAME}: the pair was not finished; give the command that measured it again, "
    f"which goes on where it stopped"
)
_ADVICE = "; if nobody changed the file it was damaged: measure the pair again"


@dataclass(frozen=True)
class _Stored:
    format: Literal["rlcircuits-comparison"]
    version: Literal[3, 4, 5]
    comparison: Comparison
    key: str | None = None


_ADAPTER: TypeAdapter[_Stored] = TypeAdapter(_Stored)


@dataclass(frozen=True, kw_only=True)
class StoredFinding:
    """What a document says of one measure, beside the numbers of the comparison."""

    outcome: Outcome | None = None
    """Like `settled_by`, not in a file before version 4."""
    holds: bool | None
    p: float
    words: str
    settled_by: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredVerdict:
    """What a document says of the verdict, for other programs to read."""

    outcome: Outcome | None = None
    """None in a file before version 4."""
    holds: bool
    profile: str
    reads_as_online_rl: bool
    findings: dict[str, StoredFinding]
    """By measure."""


@dataclass(frozen=True, kw_only=True)
class Document(_Stored):
    """All that a document holds."""

    verdict: StoredVerdict


def to_json(comparison: Comparison, key: str | None = None) -> str:
    """Return the comparison and its verdict as a JSON document, with NaN as null.

    Args:
        comparison: what to write.
        key: hash of everything the comparison was made from; see :func:`load_finished`.
    """
    return dump_document(to_document(comparison, key))


def to_json_list(comparisons: Sequence[Comparison]) -> str:
    """Return several comparisons as one JSON document: a list of what :func:`to_json` writes for each."""
    return dump_document([to_document(comparison) for comparison in comparisons])


def to_document(comparison: Comparison, key: str | None = None) -> dict[str, object]:
    """Return what :func:`to_json` writes, as an object that JSON has types for."""
    stored = _ADAPTER.dump_python(_Stored(_FORMAT, VERSION, comparison, key), mode="json")
    if comparison.circuits is None:
        del stored["comparison"]["circuits"]  # files without circuits are those of earlier releases
    if comparison.scoring is None:
        del stored["comparison"]["scoring"]  # and so are those of the default scores
    if comparison.noise_not_needed is None:
        del stored["comparison"]["noise_not_needed"]  # and those whose noise was all measured
    return {**stored, "verdict": asdict(_describe(comparison, judge(comparison)))}


def dump_document(document: object) -> str:
    """Return a document as JSON text, as every comparison is written."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


@validate_arguments
def save_comparison(comparison: Comparison, folder: str | Path, key: str | None = None) -> Path:
    """Write ``comparison.json`` into a folder, replacing an older file atomically.

    Args:
        comparison: what to write.
        folder: where to; created if it does not exist.
        key: hash of everything the comparison was made from; see :func:`load_finished`.

    Returns:
        The file's path.
    """
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, to_json(comparison, key))
    return path


@validate_arguments
def load_comparison(path: str | Path) -> Comparison:
    """Load what :func:`save_comparison` wrote.

    Args:
        path: the file, or its folder.

    Raises:
        RLCircuitsError: the file is missing, truncated or malformed; the message names the file and the field.
    """
    return _load(path).comparison


def load_finished(folder: str | Path, key: str) -> Comparison | None:
    """Load the comparison in a folder if it was saved with this key, else return None."""
    try:
        stored = _load(folder)
    except RLCircuitsError:
        return None  # missing, of an older version, or damaged: the caller makes it again
    return stored.comparison if stored.key == key else None


def find_comparisons(folder: str | Path) -> tuple[Path, ...]:
    """Return the comparison files of a folder: its own, or those of its subfolders (one a pair), sorted by name.

    Raises:
        RLCircuitsError: there is none, or the folder is that of a pair that was not finished.
    """
    folder = Path(folder)
    own = folder / FILE_NAME
    if _is_unfinished(folder):
        raise RLCircuitsError(f"{folder}: {_UNFINISHED}")
    found = (own,) if own.is_file() else tuple(sorted(folder.glob(f"*/{FILE_NAME}")))
    if not found:
        if unfinished := find_unfinished(folder):
            raise RLCircuitsError(f"{', '.join(map(str, unfinished))}: {_UNFINISHED}")
        raise RLCircuitsError(f"{folder}: holds no {FILE_NAME}, neither do its subfolders; see compare --output")
    return found


def check_names(comparisons: Sequence[Comparison], files: Sequence[Path]) -> None:
    """Raise RLCircuitsError if two comparisons have one name, since a release has each pair once.

    Args:
        comparisons: the comparisons of a run.
        files: the file of each, in their order.
    """
    seen: dict[str, Path] = {}
    for comparison, file in zip(comparisons, files, strict=True):
        if (first := seen.setdefault(comparison.name, file)) is not file:
            raise RLCircuitsError(
                f"{file}: field 'comparison.name' is {comparison.name!r}, as in {first}; a release has each pair once: "
                "move one of the two folders out of the run's, or name a pair's own folder"
            )


def find_unfinished(folder: str | Path) -> tuple[Path, ...]:
    """Return the subfolders of pairs that were not finished, sorted by name; none in the folder of one pair."""
    folder = Path(folder)
    if (folder / FILE_NAME).is_file():
        return ()
    return tuple(sorted(path for path in folder.glob("*") if _is_unfinished(path)))


def _is_unfinished(folder: Path) -> bool:
    sides = (folder / f"{side}{ANSWERS_SUFFIX}" for side in SIDES)
    return not (folder / FILE_NAME).is_file() and any(file.is_file() for file in sides)


def _load(path: str | Path) -> _Stored:
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    text = read_text(path, "a comparison")
    try:
        document = parse_json_object(text)
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{path}: {error}{_ADVICE}") from None
    _check_version(path, document)
    try:
        for field, number in _numbers(document):
            if not math.isfinite(number):
                raise RLCircuitsError(f"field {field!r} is {number}; a finite number or null is wanted")
        stored = _ADAPTER.validate_json(text, strict=True)
        check_comparison(stored.comparison)
        if stored.version < VERSION and stored.comparison.requested is not None:
            raise RLCircuitsError(f"field 'version' is {stored.version}; {VERSION} is wanted, since it has 'requested'")
    except ValidationError as error:
        raise RLCircuitsError(f"{path}{describe_error(error, before=': field')}{_ADVICE}") from None
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{path}: {error}{_ADVICE}") from None
    # Earlier versions stored names that profiles no longer have.
    return replace(stored, comparison=replace(stored.comparison, profile=current_name(stored.comparison.profile)))


def _check_version(path: Path, document: Mapping[str, object]) -> None:
    """Raise RLCircuitsError for a file of another release, which is not damaged."""
    version = document.get("version")
    if document.get("format") != _FORMAT or type(version) is not int or version in _VERSIONS:
        return
    advice = "update rlcircuits, or measure the pair again" if version > VERSION else "measure the pair again"
    raise RLCircuitsError(
        f"{path}: field 'version' is {version}; this release of rlcircuits reads {', '.join(map(str, _VERSIONS))}; "
        f"{advice}"
    )


def _numbers(value: object, field: str = "") -> Iterator[tuple[str, float]]:
    """Yield every float of a document, with its field."""
    if isinstance(value, float):
        yield field, value
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(each, f"{field}.{key}" if field else str(key))


def _describe(comparison: Comparison, verdict: Verdict) -> StoredVerdict:
    names = [field.name for field in fields(StoredFinding)]
    return StoredVerdict(
        outcome=verdict.outcome,
        holds=verdict.holds,
        profile=verdict.profile.name,
        reads_as_online_rl=reads_as_online_rl(comparison),
        findings={
            measure: StoredFinding(**{name: getattr(finding, name) for name in names})
            for measure, finding in verdict.all_findings.items()
        },
    )
