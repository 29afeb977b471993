"""What a run leaves in its output folder."""

from __future__ import annotations

from pathlib import Path


def result_bytes(output: Path, *, after_kills: bool = False) -> dict[str, bytes]:
    """Every file of results and of the store by its path, but for locks and for what tells of the run itself.

    Args:
        output: the folder.
        after_kills: leave out what a killed process may have left half written.
    """
    files = [path for path in output.rglob("*") if path.is_file() and path.name not in ("run.json", "pace.jsonl")]
    kept = [path for path in files if path.suffix != ".lock" and not (after_kills and path.name.startswith("."))]
    return {str(path.relative_to(output)): path.read_bytes() for path in kept}
