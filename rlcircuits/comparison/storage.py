"""A comparison as JSON, there and back.

The file holds ``format`` and ``version``, the ``comparison`` with every question's values, so that it can be
shown and plotted again without a model, the ``key`` of everything it was made from, so that it need not be made
again, and the ``verdict`` in words for other programs to read. The verdict is never read back: it is judged anew
from the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import COMPARISON_FILE as FILE_NAME
from rlcircuits.common.files import write_text_atomically
from rlcircuits.common.input_files import read_text
from rlcircuits.common.json_files import parse_json_object
from rlcircuits.common.validation import describe_error
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.consistency import check_comparison
from rlcircuits.comparison.verdict import Verdict, judge, reads_as_online_rl

_FORMAT: Literal["rlcircuits-comparison"] = "rlcircuits-comparison"
_VERSION: Literal[3] = 3
_MEND = "; if nobody changed the file it was damaged: measure the pair again"


@dataclass(frozen=True)
class _Stored:
    format: Literal["rlcircuits-comparison"]
    version: Literal[3]
    comparison: Comparison
    key: str | None = None


_ADAPTER: TypeAdapter[_Stored] = TypeAdapter(_Stored)


def to_json(comparison: Comparison, key: str | None = None) -> str:
    """Write the comparison and its verdict as a JSON document. NaN is null. `key`: of what it was made from."""
    return _dumped(_document(comparison, key))


def to_json_list(comparisons: Sequence[Comparison]) -> str:
    """Write several comparisons as one JSON document, a list of what :func:`to_json` writes of each."""
    return _dumped([_document(comparison) for comparison in comparisons])


@validate_arguments
def save_comparison(comparison: Comparison, folder: str | Path, key: str | None = None) -> Path:
    """Write ``comparison.json`` into `folder` (made if need be), replacing it only once all is written."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, to_json(comparison, key))
    return path


@validate_arguments
def load_comparison(path: str | Path) -> Comparison:
    """Read what :func:`save_comparison` wrote, from the file itself or from its folder.

    Raises RLCircuitsError naming file and field for a missing, cut-off or malformed file.
    """
    return _load(path).comparison


def load_finished(folder: str | Path, key: str) -> Comparison | None:
    """Read the comparison of a folder if it was made from what `key` stands for; None if there is none such."""
    try:
        stored = _load(folder)
    except RLCircuitsError:
        return None  # missing, of an older version, or damaged: it is made again
    return stored.comparison if stored.key == key else None


def find_comparisons(folder: str | Path) -> tuple[Path, ...]:
    """Find the comparison files of a folder: its own, or those of its subfolders (one a pair), by name.

    Raises RLCircuitsError where there is none.
    """
    folder = Path(folder)
    own = folder / FILE_NAME
    found = (own,) if own.is_file() else tuple(sorted(folder.glob(f"*/{FILE_NAME}")))
    if not found:
        raise RLCircuitsError(f"{folder}: holds no {FILE_NAME}, neither do its subfolders; see compare --output")
    return found


def _load(path: str | Path) -> _Stored:
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    text = read_text(path, "a comparison")
    try:
        for field, number in _numbers(parse_json_object(text)):
            if not math.isfinite(number):
                raise RLCircuitsError(f"field {field!r} is {number}; a finite number or null is wanted")
        stored = _ADAPTER.validate_json(text, strict=True)
        check_comparison(stored.comparison)
    except ValidationError as error:
        raise RLCircuitsError(f"{path}{describe_error(error, before=': field')}{_MEND}") from None
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{path}: {error}{_MEND}") from None
    return stored


def _document(comparison: Comparison, key: str | None = None) -> dict[str, object]:
    stored = _ADAPTER.dump_python(_Stored(_FORMAT, _VERSION, comparison, key), mode="json")
    return {**stored, "verdict": _describe(comparison, judge(comparison))}


def _dumped(document: object) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _numbers(value: object, field: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a document that is not whole, with its field."""
    if isinstance(value, float):
        yield field, value
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(each, f"{field}.{key}" if field else str(key))


def _describe(comparison: Comparison, verdict: Verdict) -> dict[str, object]:
    return {
        "holds": verdict.holds,
        "profile": verdict.profile.name,
        "reads_as_online_rl": reads_as_online_rl(comparison),
        "findings": {
            measure: {"holds": finding.holds, "p": finding.p, "words": finding.words}
            for measure, finding in verdict.all_findings.items()
        },
    }
