"""A comparison as JSON, there and back.

The file holds ``format`` and ``version``, the ``comparison`` with every question's values, so that it can be
shown and plotted again without a model, and the ``verdict`` in words for other programs to read. The verdict
is never read back: it is judged anew from the numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from rlcircuits.comparison import Comparison
from rlcircuits.errors import RLCircuitsError
from rlcircuits.expectations import Verdict, judge

FILE_NAME = "comparison.json"

_FORMAT: Literal["rlcircuits-comparison"] = "rlcircuits-comparison"
_VERSION: Literal[1] = 1


@dataclass(frozen=True)
class _Stored:
    format: Literal["rlcircuits-comparison"]
    version: Literal[1]
    comparison: Comparison


_ADAPTER: TypeAdapter[_Stored] = TypeAdapter(_Stored)


def to_json(comparison: Comparison) -> str:
    """Write the comparison and its verdict as a JSON document. NaN is null."""
    stored = _ADAPTER.dump_python(_Stored(_FORMAT, _VERSION, comparison), mode="json")
    return json.dumps(stored | {"verdict": _describe(judge(comparison))}, indent=1, allow_nan=False) + "\n"


def save_comparison(comparison: Comparison, folder: str | Path) -> Path:
    """Write ``comparison.json`` into `folder` (made if need be), replacing it only once all is written."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(to_json(comparison), encoding="utf-8")
    partial.replace(path)
    return path


def load_comparison(path: str | Path) -> Comparison:
    """Read what :func:`save_comparison` wrote, from the file itself or from its folder.

    Raises RLCircuitsError naming file and field for a missing, cut-off or malformed file.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    try:
        return _ADAPTER.validate_json(path.read_bytes()).comparison
    except OSError as error:
        raise RLCircuitsError(f"{path}: cannot be read as a comparison: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RLCircuitsError(f"{path}: {f'field {field!r}: ' if field else ''}{first['msg']}") from None


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


def _describe(verdict: Verdict) -> dict[str, object]:
    findings = [*verdict.findings.values(), verdict.accuracy]
    return {
        "holds": verdict.holds,
        "profile": verdict.profile.name,
        "findings": {f.measure: {"holds": f.holds, "p": f.p, "words": f.words} for f in findings},
    }
