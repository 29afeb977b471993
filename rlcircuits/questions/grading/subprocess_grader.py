"""A grader in a process of its own, so that nothing it does to itself can stop the others' grading.

The process is `worker.py`, one for each grader, started when first used and kept. Texts and grades go through its
pipes as JSON lines. One that takes too long or too much memory ends, or is ended; the next answer gets a new one.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["MEMORY_LIMIT", "TIME_LIMIT", "Grade", "SubprocessGrader", "subprocess_grader"]

TIME_LIMIT = 10.0
"""Seconds of processor time a grader may take over one answer. A busy machine must not change grades."""
MEMORY_LIMIT = 2 * 2**30
"""Bytes a grader may take over an answer, more than it has once it is imported."""
MATH_VERSION = 2
"""Grows with every change after which an answer may get another grade, so that no old one is taken for it."""
_WAITING = 10
"""Seconds by the clock, for each of processor time, after which a grader that sleeps is ended too."""
_START_LIMIT = 300.0


@dataclass(frozen=True)
class Grade:
    """Whether an answer is right, and, where the grader failed on it, what happened. Then it counts as wrong."""

    correct: bool
    problem: str | None = None


class SubprocessGrader:
    """`math` or a `module:function` as a callable for `QuestionSet.grade`, usable from any thread."""

    identity_module = "rlcircuits.questions.isolated"
    """The module's name when answers were first kept: their keys hold it."""

    def __init__(self, name: str, time_limit: float = TIME_LIMIT, memory_limit: int = MEMORY_LIMIT) -> None:
        self.name = name
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self._process: subprocess.Popen[str] | None = None
        self._file: Path | None = None
        self._digest: str | None = None
        self._replies: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def __call__(self, text: str, gold: str) -> bool:
        """Return True for a right answer. Why another one is not right, `grade` knows."""
        return self.grade(text, gold).correct

    def grade(self, text: str, gold: str) -> Grade:
        """Grade one answer; a grader that raises, hangs or dies gives a wrong answer with a problem.

        Raises RLCircuitsError where the grader cannot be started.
        """
        with self._lock:
            self._start()
            try:
                reply = self._ask({"text": text, "gold": gold})
            except BaseException as error:  # Ctrl-C too: a late reply must not be taken for the next answer's
                self._kill()
                if isinstance(error, queue.Empty):
                    return Grade(False, f"the grader gave no answer in {self.time_limit * _WAITING:g} s and was ended")
                raise
            if reply is None:
                return Grade(False, self._death())
            if reply.get("ended"):
                self._kill()
                return Grade(
                    False, f"the grader took more than {self.memory_limit / 2**30:g} GiB of memory and was ended"
                )
            return Grade(reply["correct"], reply["problem"])

    def start(self) -> None:
        """Start the process, if it is not there, so that a grader that cannot be used is found out now.

        One whose file has changed since is ended first. Raises RLCircuitsError, saying why, where none can be started.
        """
        with self._lock:
            if self._process is not None and _digest(self._file) != self._digest:
                self._kill()
            self._start()

    @property
    def identity(self) -> str:
        """The name, and what it grades by: the versions of `math`, or the sha256 of the file of one's own.

        So an edited grader is another; what else its file imports does not count.

        Raises RLCircuitsError where the grader cannot be started.
        """
        if self.name == "math":
            return f"{self.name} {MATH_VERSION}, math-verify {version('math-verify')}"
        with self._lock:
            self._start()
        return self.name if self._digest is None else f"{self.name} sha256:{self._digest}"

    def close(self) -> None:
        """End the process. The next answer starts another."""
        with self._lock:
            self._kill()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        # The same modules as here, the current directory's too. It is no multiprocessing process, since those
        # import the program's main module, and run a script without a main guard again.
        paths = dict.fromkeys([*filter(None, sys.path), os.getcwd()])
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "rlcircuits.questions.grading.worker", self.name),
                *(str(self.time_limit), str(self.memory_limit)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self._replies = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process, self._replies), daemon=True).start()
        problem = "its process did not start"
        try:
            if ready := self._reply(_START_LIMIT):
                problem = ready["problem"]
                self._file = Path(ready["file"]) if ready.get("file") else None
                self._digest = _digest(self._file)
        except queue.Empty:
            pass
        finally:
            if problem:
                self._kill()
        if problem:
            raise RLCircuitsError(f"grader {self.name!r}: {problem}")

    def _ask(self, request: dict[str, str]) -> dict[str, Any] | None:
        """Return the reply, None where the process died. Raises queue.Empty where none comes in time."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            return None
        return self._reply(self.time_limit * _WAITING)

    def _reply(self, seconds: float) -> dict[str, Any] | None:
        line = self._replies.get(timeout=seconds)
        return json.loads(line) if line else None

    def _kill(self) -> int:
        """End the process and return its exit code, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        if process.stdin is not None:
            with suppress(OSError):  # what it did not read any more
                process.stdin.close()
        return process.wait()

    def _death(self) -> str:
        """Say how the process ended itself."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._kill()
        if hasattr(signal, "SIGVTALRM") and code == -signal.SIGVTALRM:
            return f"the grader took more than {self.time_limit:g} s of processor time and was ended"
        return f"the grader's process died with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


@cache
def subprocess_grader(name: str) -> SubprocessGrader:
    """Return the one grader of that name in this program; its process ends with the program."""
    grader = SubprocessGrader(name)
    atexit.register(grader.close)
    return grader


def _digest(file: Path | None) -> str | None:
    try:
        return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:  # gone since
        return None


def _read(process: subprocess.Popen[str], replies: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            replies.put(line)
    replies.put(None)
