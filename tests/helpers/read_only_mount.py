"""Make a folder read-only, even for root: with a read-only bind mount, or else with permissions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import pytest


@contextmanager
def read_only(folder: Path, at: Path) -> Iterator[Path]:
    """Yield a path at which the folder is read-only. Skips the test if neither way works here."""
    at.mkdir()
    mounted = _runs("mount", "--bind", str(folder), str(at))
    try:
        if mounted and _runs("mount", "-o", "remount,bind,ro", str(at)):
            yield at
            return
    finally:
        if mounted:
            subprocess.run(["umount", str(at)], check=True)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)
    try:
        if _is_writable(folder):
            pytest.skip("no folder can be made read-only here: mounting is not allowed, and root writes everywhere")
        yield folder
    finally:
        for each in folders:
            each.chmod(0o755)


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _is_writable(folder: Path) -> bool:
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


if os.name != "posix":
    pytest.skip("mounts and modes are POSIX's", allow_module_level=True)
