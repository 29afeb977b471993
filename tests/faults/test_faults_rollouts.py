"""Stored rollouts that both models are run on: every field missing, misspelt or of every type, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from fault_check import FINISHED, Fault, run
from mutations import JSON_ODDITIES, JSON_VALUES, damaged, dotted, doubled, fields, renamed, replaced, values, without
from valid_inputs import AFTER, BEFORE, rollouts

KIND = "rollouts"
FILE = "rollouts.jsonl"


@cache
def records() -> list[dict[str, Any]]:
    """Return rollouts with a tool's result in each."""
    found = [json.loads(line) for line in rollouts().splitlines()]
    names = ("question_id", "prompt_ids", "answer_ids", "text", "correct", "step")
    return [{**{name: each[name] for name in names}, "segments": [[0, 1]]} for each in found]


def write(data: bytes) -> list[str]:
    """Write the file, and return the command that reads it."""
    Path(FILE).write_bytes(data)
    return ["signs", "--rollouts", FILE, "--before", BEFORE, "--after", AFTER]


def with_second(line: str | bytes) -> bytes:
    """Return the file with another second line."""
    lines = [json.dumps(each).encode() for each in records()]
    lines[1] = line.encode() if isinstance(line, str) else line
    return b"".join(each + b"\n" for each in lines)


NO_JSON = ("5,000 digits", "100,000 deep")
NEEDED = {"question_id", "prompt_ids", "answer_ids", "correct"}
"""Fields without which a line is no rollout that a model can be run on."""
REFUSED = {"prompt_ids": {"text", "object", "true", "whole"}, "answer_ids": {"text", "object", "true", "whole", "null"}}
"""Values, by name, that a field cannot have; others may be read as something else, or as an answer without tokens."""


def faults() -> Iterator[Fault]:
    second, record = f"{FILE}:2", records()[1]
    for path in fields(record):
        where, harmless = dotted(path), dotted(path) not in NEEDED
        yield Fault(KIND, f"{where} missing", partial(write, with_second(without(record, path))), (second,), harmless)
        yield Fault(KIND, f"{where} misspelt", partial(write, with_second(renamed(record, path))), (second,), harmless)
        yield Fault(KIND, f"{where} twice", partial(write, with_second(doubled(record, path))), (second,))
    for path, name, value in values(fields(record), JSON_VALUES, JSON_ODDITIES):
        where = dotted(path)
        harmless = name not in NO_JSON and name not in REFUSED.get(where, ())
        made = partial(write, with_second(replaced(record, path, value)))
        yield Fault(KIND, f"{where} is {name}", made, (second,), harmless)
    for where in ("prompt_ids", "answer_ids", "segments"):
        place = (where, 0, 1) if where == "segments" else (where, 0)
        for name, value in (JSON_VALUES | JSON_ODDITIES | {"2 ** 63": str(2**63), "10 ** 6": "1000000"}).items():
            harmless = name not in (
                "text",
                "list",
                "object",
                "null",
                "fraction",
                "minus one",
                "2 ** 63",
                "10 ** 6",
                *NO_JSON,
            )
            made = partial(write, with_second(replaced(record, place, value)))
            yield Fault(KIND, f"{dotted(place)} is {name}", made, (FILE,), harmless)
    for name, mask in {"short": [1], "of twos": [2] * 9, "no list": 1, "of text": ["1"]}.items():
        line = json.dumps({**without_segments(record), "response_mask": mask})
        yield Fault(KIND, f"response_mask is {name}", partial(write, with_second(line)), (second, "response_mask"))
    for name, data in damaged(with_second(json.dumps(record)), cuts=6, flips=12):
        yield Fault(KIND, f"file: {name}", partial(write, data), (FILE,), harmless=True)


def without_segments(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "segments"}


def test_valid_rollouts_are_read() -> None:
    assert run(write(with_second(json.dumps(records()[1])))).code in FINISHED


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_rollout(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
