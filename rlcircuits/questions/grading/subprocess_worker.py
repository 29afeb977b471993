"""Serve grades over standard input and output. This is the program that `subprocess_grader.py` starts.

    python -m rlcircuits.questions.grading.subprocess_worker NAME SECONDS BYTES

NAME is `math` or `module:function`. All messages are JSON objects, one a line:

1. The worker imports the grader and writes `{"problem", "file"}`: why the import failed, or null, and the file of the
   user's own grader.
2. For each line `{"text", "gold"}` that it reads, it writes `{"correct", "problem", "ended"}`.

It stops when its input ends, or after an answer that takes more than BYTES of memory ("ended"). The kernel kills it
when one answer takes more than SECONDS of processor time.
"""

from __future__ import annotations

import importlib
import json
import operator
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.memory_limit import limit_memory


def find_grader(name: str) -> Callable[[str, str], Any]:
    """Import the grader `math` or a user's `module:function`. Raises RLCircuitsError if that fails."""
    if name == "math":
        from rlcircuits.questions.grading.math_grader import grade_math

        grade_math("x + 1", "1 + x")  # imports SymPy and math-verify, which takes seconds
        return grade_math
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # a module may raise anything while it is imported, SystemExit included
        raise RLCircuitsError(f"module {module_name!r} cannot be imported: {_words(error)}") from error
    try:
        function = operator.attrgetter(function_name)(module)
    except AttributeError:
        where = getattr(module, "__file__", None) or module_name
        raise RLCircuitsError(f"{where} has no {function_name!r}") from None
    if not callable(function):
        raise RLCircuitsError(f"{function_name!r} of module {module_name!r} is no function but {function!r}")
    return function  # type: ignore[no-any-return]


def source_file(name: str) -> str | None:
    """Return the file of the module of a `module:function`; None for `math` and for a module without a file."""
    module = sys.modules.get(name.partition(":")[0]) if name != "math" else None
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return origin if isinstance(origin, str) and os.path.isfile(origin) else None


def grade(function: Callable[[str, str], Any], text: str, gold: str) -> dict[str, Any]:
    """Grade one answer and return the reply.

    An exception is the reply's "problem". After a MemoryError the reply is "ended", and the process must end.
    """
    try:
        result = function(text, gold)
        correct = result.item() if hasattr(result, "item") else result  # a bool of numpy or torch
    except MemoryError:
        return {"correct": False, "problem": None, "ended": True}
    except BaseException as error:
        return {"correct": False, "problem": _words(error)}
    if not isinstance(correct, bool):
        return {"correct": False, "problem": f"the grader returned {result!r}; True or False is wanted"}
    return {"correct": correct, "problem": None}


def main(name: str, time_limit: float, memory_limit: int) -> None:
    """Serve grades until standard input ends or an answer exceeds the memory limit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main program handles Ctrl-C
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a grader prints goes to stderr, away from the replies

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    try:
        function = find_grader(name)
    except RLCircuitsError as error:
        reply({"problem": str(error)})
        return
    limit_memory(memory_limit)  # in addition to what the imports use
    reply({"problem": None, "file": source_file(name)})
    for line in sys.stdin:
        request = json.loads(line)
        _end_after(time_limit)
        result = grade(function, request["text"], request["gold"])
        _end_after(0)
        reply(result)
        if result.get("ended"):
            return


def _end_after(seconds: float) -> None:
    """Make the kernel kill this process after so many seconds of processor time; 0 switches that off."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
