"""The record of a pair's run, ``run.json`` in its folder of results: what no result says of how it was made.

It holds the command, the versions, the settings, the fingerprints of the weights, and the questions that were asked
with their reference answers. The report shows it. No result depends on it, and a folder may lack it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rlcircuits.common.files import write_text_atomically
from rlcircuits.common.stage_times import StageTime
from rlcircuits.common.versioned_files import read_versioned
from rlcircuits.questions.question_set import Question
from rlcircuits.release.measurement import Measurement

__all__ = ["RUN_FILE", "RunRecord", "load_run", "save_run"]

RUN_FILE = "run.json"
_FORMAT, _VERSION = "rlcircuits-run", 1
_PACKAGES = ("rlcircuits", "torch", "transformers", "numpy", "scipy", "safetensors")


@dataclass(frozen=True)
class RunRecord:
    """How a pair's results were made."""

    command: tuple[str, ...]
    """``sys.argv`` of the process that measured the pair."""
    started: datetime
    seconds: float
    """From the first stage to the last; stages that the store already had take none."""
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    """By side, of the weights."""
    questions: tuple[Question, ...]
    """All that were asked."""
    pool: str | None = None
    """The pair's pool in the pairs file; None too for a record of an earlier version."""
    stages: tuple[StageTime, ...] = ()
    """Where the time went, if ``--stage-times`` was given, up to when this file was written."""


@dataclass(frozen=True)
class _File:
    format: str
    version: int
    run: RunRecord


_ADAPTER: TypeAdapter[_File] = TypeAdapter(_File)


def save_run(measurement: Measurement, folder: Path, started: datetime, stages: tuple[StageTime, ...] = ()) -> None:
    """Write the record of a run that ends now; an older file is replaced atomically.

    Args:
        measurement: the pair.
        folder: its folder of results.
        started: when its first stage began.
        stages: the time of each stage, if it was recorded.
    """
    record = RunRecord(
        command=tuple(sys.argv),
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        versions={"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        settings=measurement.settings.key_table(),
        fingerprints={side: source.fingerprint() for side, source in measurement.sources.items()},
        questions=measurement.questions.questions,
        pool=measurement.pair.pool,
        stages=stages,
    )
    folder.mkdir(parents=True, exist_ok=True)
    text = _ADAPTER.dump_json(_File(_FORMAT, _VERSION, record), indent=1).decode()
    write_text_atomically(folder / RUN_FILE, text)


def load_run(folder: Path) -> RunRecord:
    """Return the record in a pair's folder of results.

    Raises:
        RLCircuitsError: there is none, or it is damaged or of another version.
    """
    known, what = (_FORMAT, _VERSION), "the record of a run"
    return read_versioned(folder / RUN_FILE, _ADAPTER, known, what, "measure the pair again").run


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
