"""Tell bad input, which a user can fix, from a fault of rlcircuits, which is to be reported."""

from __future__ import annotations

import platform
import sys
import traceback
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile

from rlcircuits.common.errors import RLCircuitsError, one_line

_PACKAGES = ("rlcircuits", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


@dataclass(frozen=True)
class Failure:
    """Why there is no result."""

    message: str
    """One line."""
    traceback: str | None = None
    """The traceback of a fault of rlcircuits; None where the input or the environment is at fault."""

    @property
    def is_fault(self) -> bool:
        """Whether rlcircuits is at fault, and not its input."""
        return self.traceback is not None

    def of(self, subject: str) -> Failure:
        """Return this failure with what failed at the start of its message."""
        return replace(self, message=f"{subject}: {self.message}")


class StageFailed(Exception):
    """Raised in one process for a failure in another, which has described it already."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def describe_failure(error: Exception, folder: str | Path | None = None) -> Failure:
    """Return the failure that an exception means; write a report file if it is a fault of rlcircuits.

    Args:
        error: RLCircuitsError, OSError, an I/O error of safetensors and out-of-memory errors are not faults of
            rlcircuits; all others are.
        folder: where the report is written; by default, and if that fails, in the temporary folder.
    """
    if isinstance(error, StageFailed):
        return error.failure
    if isinstance(error, RLCircuitsError | OSError):
        return Failure(one_line(error))
    if type(error).__name__ == "SafetensorError" and "I/O error" in str(error):  # its OSError, as for a full disk
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
    """Write traceback, command and versions to a new file and return it, or None if no folder is writable."""
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
