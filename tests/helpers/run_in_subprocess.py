"""Run a test file in a subprocess, so that its changes to torch or Triton do not affect other tests."""

from __future__ import annotations

import os
import subprocess
import sys


def check_tests_of(file: str, **environment: str) -> None:
    """Run a test file with additional environment variables; fail with its output if a test fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
