"""Run the command line in another process: a new one, or a fork of this one, which is faster."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import NoReturn

from fault_check import WAITING_SECONDS, Outcome
from helpers.paths import ROOT

from rlcircuits.cli.main import main

ROOT = str(ROOT)


def run_in_new_process(shell: str, environment: Mapping[str, str | None] | None = None) -> Outcome:
    """Run a line of bash in which ``$R`` stands for `rlcircuits`.

    `environment` holds changed variables; None removes one.
    """
    changed = {**os.environ, "PYTHONPATH": ROOT, **(environment or {})}
    kept = {name: value for name, value in changed.items() if value is not None}
    line = shell.replace("$R", f'"{sys.executable}" -m rlcircuits.cli.main')
    ran = subprocess.run(["bash", "-c", line], env=kept, capture_output=True, timeout=WAITING_SECONDS, check=False)
    return Outcome(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def run_in_fork(
    arguments: list[str],
    prepare: Callable[[], object] = lambda: None,
    *,
    out: str | None = None,
    err: str | None = None,
) -> Outcome:
    """Run the command line in a fork of this process, after calling `prepare` there.

    `out` and `err` are files for stdout and stderr; without them the outcome holds both.
    """
    pipes = [os.pipe(), os.pipe()]
    with warnings.catch_warnings():
        # Python warns of forks with threads. Those of torch do nothing at this moment.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        ends = [
            end if file is None else os.open(file, os.O_WRONLY)
            for (_, end), file in zip(pipes, (out, err), strict=True)
        ]
        _run(arguments, prepare, ends)
    shown = []
    for _, end in pipes:
        os.close(end)
    for start, _ in pipes:
        with open(start, encoding="utf-8", errors="replace") as read:
            shown.append(read.read())
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), *shown)


def _run(arguments: list[str], prepare: Callable[[], object], ends: list[int]) -> NoReturn:
    """Run the command line in the child process, and exit as Python does."""
    code = 1
    try:
        for number, end in enumerate(ends, start=1):
            os.dup2(end, number)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
        prepare()
        code = main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            code = 120
        os._exit(code)
