"""Question files: every field missing, misspelt or of every type, and damaged lines and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fault_check import Fault, run
from mutations import (
    JSON_ODDITIES,
    JSON_VALUES,
    damaged,
    dotted,
    doubled,
    fields,
    is_json,
    renamed,
    replaced,
    values,
    without,
)
from valid_inputs import AFTER, BEFORE, QUESTIONS

KIND = "question file"
FILE = "ours.jsonl"
LINES = QUESTIONS.splitlines()
SECOND: dict[str, Any] = json.loads(LINES[1])

ALLOWED = {
    "id": {"zero", "minus one", "whole", "text", "31 digits"},
    "question": {"text"},
    "answer": {"text"},
}
"""The values, by name, that each field accepts. An id is a string or integer; other fields may hold anything."""


def write(data: bytes) -> list[str]:
    """Write the file, and return the command that asks its questions."""
    Path(FILE).write_bytes(data)
    fields = f'name = "one"\nbefore = "{BEFORE}"\nafter = "{AFTER}"\nalgorithm = "grpo"'
    asked = f'[[questions]]\nname = "ours"\nfile = "{FILE}"\nid = "id"\ngrader = "exact"\ncount = 2'
    Path("release.toml").write_text(f'[settings]\nmin_questions = 1\n{asked}\n[[pair]]\n{fields}\nquestions = "ours"\n')
    return ["plan", "release.toml"]


def with_second(line: str | bytes) -> bytes:
    """Return the file with another second line."""
    line = line.encode() if isinstance(line, str) else line
    return b"\n".join([LINES[0].encode(), line, LINES[2].encode(), b""])


def faults() -> Iterator[Fault]:
    second = f"{FILE}:2"
    for path in fields(SECOND):
        where, harmless = dotted(path), path == ("more",)
        says = (second, where)
        yield Fault(KIND, f"{where} missing", partial(write, with_second(without(SECOND, path))), says, harmless)
        yield Fault(KIND, f"{where} misspelt", partial(write, with_second(renamed(SECOND, path))), says, harmless)
        yield Fault(KIND, f"{where} twice", partial(write, with_second(doubled(SECOND, path))), says)
    for path, name, value in values(fields(SECOND), JSON_VALUES, JSON_ODDITIES):
        where = dotted(path)
        unread = path == ("more",) and name not in ("5,000 digits", "100,000 deep")
        text = with_second(replaced(SECOND, path, value))
        yield Fault(
            KIND, f"{where} is {name}", partial(write, text), (second,), unread or name in ALLOWED.get(where, ())
        )
    for name, data in damaged(LINES[1].encode(), cuts=10, flips=12):
        if b"\n" not in data:
            yield Fault(KIND, f"line 2: {name}", partial(write, with_second(data)), (second,), _is_record(data))
    for name, data in damaged(QUESTIONS.encode(), cuts=6, flips=6):
        yield Fault(KIND, f"file: {name}", partial(write, data), (FILE,), all(map(_is_record, _lines(data))))
    first = LINES[0]
    yield Fault(KIND, "an id twice", partial(write, with_second(first)), (second, "q0"))
    yield Fault(KIND, "an empty line", partial(write, with_second("")), (second,))
    yield Fault(KIND, "two objects on a line", partial(write, with_second(first + LINES[1])), (second,))
    yield Fault(KIND, "a Python dict", partial(write, with_second(str(SECOND))), (second,))
    yield Fault(KIND, "one JSON list", partial(write, json.dumps([SECOND], indent=1).encode()), (FILE,))
    yield Fault(KIND, "one indented object", partial(write, json.dumps(SECOND, indent=1).encode()), (FILE,))
    yield Fault(KIND, "CSV", partial(write, b"id,question,answer\nq,41+30+12?,83\n"), (FILE,))


def _lines(data: bytes) -> list[bytes]:
    return data.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")


def _is_record(data: bytes) -> bool:
    """Return True if a line is well-formed, whatever its fields are."""
    return is_json(data) and isinstance(json.loads(data), dict)


def test_the_valid_file_runs() -> None:
    assert run(write(QUESTIONS.encode())).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_question_file(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
