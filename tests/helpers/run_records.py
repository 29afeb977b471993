"""Write records of runs that were not measured."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rlcircuits.release.run_record import _ADAPTER, _FORMAT, _VERSION, RUN_FILE, RunRecord, _File


def write_record(folder: Path, pool: str | None) -> Path:
    """Write a record that names a pool, and return the folder, which is made."""
    record = RunRecord((), datetime(2026, 1, 1, tzinfo=UTC), 1.0, {}, {}, {}, (), pool)
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_bytes(_ADAPTER.dump_json(_File(_FORMAT, _VERSION, record)))
    return folder
