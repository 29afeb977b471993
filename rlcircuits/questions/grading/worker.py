"""The process in which a grader runs: `python -m rlcircuits.questions.grading.worker module:function SECONDS BYTES`.

It says in one line whether the grader could be imported, and from which file where it is a user's own, then answers
each line of `{"text", "gold"}` with one of `{"correct", "problem", "ended"}`, until its input ends or an answer takes
more than BYTES of memory. The kernel ends it when it takes SECONDS of processor time over one.
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
    """Import a grader: `math`, or a user's `module:function`. Raises RLCircuitsError where that fails."""
    if name == "math":
        from rlcircuits.questions.grading.mathematics import grade_math

        grade_math("x + 1", "1 + x")  # its first answer takes seconds of imports
        return grade_math
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # a module may do anything while it is imported, exit included
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
    """The file that an imported `module:function` was read from; None for `math`, and for a module made of no file."""
    module = sys.modules.get(name.partition(":")[0]) if name != "math" else None
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return origin if isinstance(origin, str) and os.path.isfile(origin) else None


def grade(function: Callable[[str, str], Any], text: str, gold: str) -> dict[str, Any]:
    """Grade one answer; whatever the grader raises is the reply's problem, and lack of memory the process's end."""
    try:
        result = function(text, gold)
        correct = result.item() if hasattr(result, "item") else result  # numpy's and torch's truth values
    except MemoryError:
        return {"correct": False, "problem": None, "ended": True}
    except BaseException as error:
        return {"correct": False, "problem": _words(error)}
    if not isinstance(correct, bool):
        return {"correct": False, "problem": f"the grader returned {result!r}; True or False is wanted"}
    return {"correct": correct, "problem": None}


def main(name: str, time_limit: float, memory_limit: int) -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main program's to handle
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a grader prints must not mix with the replies

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    try:
        function = find_grader(name)
    except RLCircuitsError as error:
        reply({"problem": str(error)})
        return
    limit_memory(memory_limit)  # beyond what importing took
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
    """Have this process ended after that much processor time, whatever it is doing; 0 for never."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
