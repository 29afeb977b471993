"""A comparison as JSON, there and back.

The file holds ``format`` and ``version``, the ``comparison`` with every question's values, so that it can be
shown and plotted again without a model, the ``key`` of everything it was made from, so that it need not be made
again, and the ``verdict`` in words for other programs to read. The verdict is never read back: it is judged anew
from the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from rlcircuits.arguments import checked
from rlcircuits.comparison import Comparison
from rlcircuits.durable import COMPARISON as FILE_NAME
from rlcircuits.durable import write_whole
from rlcircuits.errors import RLCircuitsError
from rlcircuits.expectations import Verdict, judge, reads_as_online_rl

_FORMAT: Literal["rlcircuits-comparison"] = "rlcircuits-comparison"
_VERSION: Literal[3] = 3


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


@checked
def save_comparison(comparison: Comparison, folder: str | Path, key: str | None = None) -> Path:
    """Write ``comparison.json`` into `folder` (made if need be), replacing it only once all is written."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda partial: _write(partial, to_json(comparison, key)))
    return path


@checked
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
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise RLCircuitsError(f"{path}: cannot be read as a comparison: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RLCircuitsError(f"{path}: {f'field {field!r}: ' if field else ''}{first['msg']}") from None


def _document(comparison: Comparison, key: str | None = None) -> dict[str, object]:
    stored = _ADAPTER.dump_python(_Stored(_FORMAT, _VERSION, comparison, key), mode="json")
    return {**stored, "verdict": _describe(comparison, judge(comparison))}


def _dumped(document: object) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


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
