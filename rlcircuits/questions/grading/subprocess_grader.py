"""Run a grader in a subprocess, so that an answer on which it hangs or crashes does not stop the grading.

Each grader has one process, which runs `subprocess_worker.py`. It is started at the first answer and kept for the next
ones. Texts and grades pass through its pipes as JSON lines. A process that exceeds its limit of time or memory ends
itself or is killed, and the next answer gets a new process.
"""

from __future__ import annotations

import atexit
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
from rlcircuits.common.files import file_hash

__all__ = ["MEMORY_LIMIT", "TIME_LIMIT", "Grade", "SubprocessGrader", "subprocess_grader"]

TIME_LIMIT = 10.0
"""Seconds of processor time for one answer. Processor time, because a busy machine must not change grades."""
MEMORY_LIMIT = 2 * 2**30
"""Bytes of memory for one answer, in addition to what the grader uses after its import."""
MATH_VERSION = 2
"""Version of the `math` grader. Raise it with every change that may change a grade: cached grades are found by it."""
_WAITING = 10
"""The limit of wall-clock time, as a multiple of the limit of processor time. It ends a grader that sleeps."""
_START_LIMIT = 300.0
"""Seconds of wall-clock time for starting the process and importing the grader."""


@dataclass(frozen=True)
class Grade:
    """The grade of one answer."""

    correct: bool
    """Whether the answer is right. False if the grader failed on it."""
    problem: str | None = None
    """What happened, if the grader failed on the answer."""


class SubprocessGrader:
    """The `math` grader or a user's `module:function`, run in a subprocess.

    An instance is a callable for `QuestionSet.grade`, and can be used from any thread.

    Args:
        name: `math` or `module:function`.
        time_limit: seconds of processor time for one answer.
        memory_limit: bytes of memory for one answer.
    """

    identity_module = "rlcircuits.questions.isolated"
    """The name that the keys of stored answers hold: that of this module when answers were first stored."""

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
        """Return True for a correct answer; :meth:`grade` also returns why a grader failed."""
        return self.grade(text, gold).correct

    def grade(self, text: str, gold: str) -> Grade:
        """Grade one answer. If the grader raises, hangs or crashes, the answer is wrong and the grade says why.

        Raises:
            RLCircuitsError: the grader cannot be started.
        """
        with self._lock:
            self._start()
            try:
                reply = self._ask({"text": text, "gold": gold})
            except BaseException as error:  # Ctrl-C too: the late reply must not become the next answer's grade
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
        """Start the process unless it runs, so that a grader that cannot be used fails before the first answer.

        A process is restarted if the grader's file has changed since its start.

        Raises:
            RLCircuitsError: the process cannot be started; the message says why.
        """
        with self._lock:
            if self._process is not None and _digest(self._file) != self._digest:
                self._kill()
            self._start()

    @property
    def identity(self) -> str:
        """The grader's name and version, which is part of the key of cached answers.

        The version is that of `math` and math-verify, or the sha256 of the file of the user's own grader. Modules that
        this file imports are not part of it.

        Raises:
            RLCircuitsError: the grader cannot be started.
        """
        if self.name == "math":
            return f"{self.name} {MATH_VERSION}, math-verify {version('math-verify')}"
        with self._lock:
            self._start()
        return self.name if self._digest is None else f"{self.name} sha256:{self._digest}"

    def close(self) -> None:
        """End the process. The next answer starts a new one."""
        with self._lock:
            self._kill()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        # The subprocess finds the same modules as this process, those of the current directory included.
        # multiprocessing would import the main module, and so run a script without a main guard a second time.
        paths = dict.fromkeys([*filter(None, sys.path), os.getcwd()])
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "rlcircuits.questions.grading.subprocess_worker", self.name),
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
        """Return the reply, or None if the process died. Raises queue.Empty if no reply comes in time."""
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
        """Kill the process and return its exit code; the negative of a signal's number if a signal ended it."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        if process.stdin is not None:
            with suppress(OSError):  # the process died before it read everything
                process.stdin.close()
        return process.wait()

    def _death(self) -> str:
        """Wait for a process that closed its output, and return why it ended."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._kill()
        if hasattr(signal, "SIGVTALRM") and code == -signal.SIGVTALRM:
            return f"the grader took more than {self.time_limit:g} s of processor time and was ended"
        return f"the grader's process died with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


@cache
def subprocess_grader(name: str) -> SubprocessGrader:
    """Return the grader with this name, the same object at every call. Its process ends with the program."""
    grader = SubprocessGrader(name)
    atexit.register(grader.close)
    return grader


def _digest(file: Path | None) -> str | None:
    try:
        return None if file is None else file_hash(file)
    except OSError:  # the file was deleted
        return None


def _read(process: subprocess.Popen[str], replies: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            replies.put(line)
    replies.put(None)
