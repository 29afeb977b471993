"""Run a file's tests in a process of their own, where what they change of torch or Triton changes nothing else."""

from __future__ import annotations

import os
import subprocess
import sys


def check_tests_of(file: str, **environment: str) -> None:
    """Run them with these environment variables set besides; fail with their output if one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
