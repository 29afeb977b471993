"""Why something came to no result: bad input, which a user can mend, or a fault of rlcircuits, to be reported."""

from __future__ import annotations

import platform
import sys
import traceback
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile

from rlcircuits.common.errors import RLCircuitsError, one_line

_PACKAGES = ("rlcircuits", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


@dataclass(frozen=True)
class Failure:
    """What stands in place of a result."""

    message: str
    """One line."""
    traceback: str | None = None
    """Of a fault of rlcircuits. None where the input or the set-up is what is wrong."""

    @property
    def is_fault(self) -> bool:
        """Whether rlcircuits is to blame, and not what it was given."""
        return self.traceback is not None


def describe_failure(error: Exception, folder: str | Path | None = None) -> Failure:
    """Say what an error means for who runs rlcircuits.

    Args:
        error: RLCircuitsError, OSError or a lack of memory, or anything else, which is a fault of rlcircuits.
        folder: where a fault's traceback is written; by default, and where that fails, the temporary folder.
    """
    if isinstance(error, RLCircuitsError | OSError):
        return Failure(one_line(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return Failure(f"out of memory: {one_line(error)}; lower batch_size or batch_tokens, or set recompute")
    found = "".join(traceback.format_exception(error))
    message = f"internal error, a fault of rlcircuits and no verdict: {_words(error)}"
    file = _write_report(found, folder)
    if file is None:
        print(found, end="", file=sys.stderr)
        return Failure(f"{message}; please report it with the traceback above", found)
    return Failure(f"{message}; the traceback is in {file}, please report it with that file", found)


def _words(error: Exception) -> str:
    words, kind = one_line(error), type(error).__name__
    return words if words.startswith(kind) else f"{kind}: {words}"


def _write_report(found: str, folder: str | Path | None) -> Path | None:
    """Write the traceback, the command and the versions to a new file; None where no folder takes it."""
    about = [f"command: {sys.argv}", f"python {platform.python_version()} on {platform.platform()}"]
    about += [f"{name} {_version(name)}" for name in _PACKAGES]
    for place in dict.fromkeys((folder, None)):
        try:
            with NamedTemporaryFile(
                "w", prefix="rlcircuits-fault-", suffix=".txt", dir=place, delete=False, encoding="utf-8"
            ) as file:
                file.write("\n".join([*about, "", found]))
            return Path(file.name)
        except OSError:
            continue
    return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
