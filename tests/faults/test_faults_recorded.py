"""Recorded answers: every field missing, misspelt or of every type, and damaged lines and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from fault_check import FINISHED, Fault, run
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

from rlcircuits.checkpoints.source import CheckpointSource

KIND = "recorded answers"
FILE = "given.jsonl"
ASKED: list[dict[str, Any]] = list(map(json.loads, QUESTIONS.splitlines()))


@cache
def records() -> list[dict[str, Any]]:
    """Return a correct answer to each question, as another engine records it."""
    tokenizer = CheckpointSource(BEFORE).tokenizer()

    def ids(text: str, **options: Any) -> list[int]:
        return list(tokenizer(text, **options)["input_ids"])

    return [
        {
            "question": each["question"],
            "prompt_token_ids": ids(each["question"]),
            "outputs": [
                {
                    "token_ids": ids(each["answer"], add_special_tokens=False),
                    "finish_reason": "stop",
                    "cumulative_logprob": -1.5,
                }
            ],
            "more": {"grade": None},
        }
        for each in ASKED
    ]


def write(data: bytes) -> list[str]:
    """Write the file as the answers of before, and return the command that compares them with valid ones of after."""
    Path("ours.jsonl").write_text(QUESTIONS)
    Path("after.jsonl").write_bytes(lines(records()))
    Path(FILE).write_bytes(data)
    Path("release.toml").write_text(
        "[settings]\nk = 3\nmin_questions = 1\nnoise_draws = 0\nquestion_count = 3\nsampling.n = 1\n"
        '[[questions]]\nname = "ours"\nfile = "ours.jsonl"\ngrader = "exact"\n'
        f'[[pair]]\nname = "one"\nbefore = "{BEFORE}"\nafter = "{AFTER}"\nalgorithm = "grpo"\nquestions = "ours"\n'
        f'recorded_before = "{FILE}"\nrecorded_after = "after.jsonl"\n'
    )
    return ["compare", "--pairs", "release.toml"]


def lines(made: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in made).encode()


def with_second(line: str | bytes) -> bytes:
    """Return the file with another second line."""
    first, _, last = records()
    return lines([first]) + (line.encode() if isinstance(line, str) else line) + b"\n" + lines([last])


ALLOWED = {
    # Wrong and empty answers are valid, and count as wrong.
    "outputs": {"list"},
    "outputs.0.token_ids": {"list"},
}
"""The values, by name, that each field accepts."""

UNREAD = {"outputs.0.finish_reason", "outputs.0.cumulative_logprob", "more", "more.grade"}
"""Fields that may hold any JSON value."""

NO_JSON = ("5,000 digits", "100,000 deep")
NEEDED = {"question", "prompt_token_ids", "outputs", "outputs.0.token_ids"}


def faults() -> Iterator[Fault]:
    second = f"{FILE}:2"
    record = records()[1]
    for path in fields(record):
        where, harmless = dotted(path), dotted(path) not in NEEDED
        yield Fault(KIND, f"{where} missing", partial(write, with_second(without(record, path))), (FILE,), harmless)
        yield Fault(KIND, f"{where} misspelt", partial(write, with_second(renamed(record, path))), (FILE,), harmless)
        yield Fault(KIND, f"{where} twice", partial(write, with_second(doubled(record, path))), (second,))
    unread = [path for path in fields(record) if dotted(path) in UNREAD]
    read = [path for path in fields(record) if path not in unread]
    few = {name: JSON_VALUES[name] for name in ("null", "object of null")}
    for path, name, value in (
        *values(read, JSON_VALUES, JSON_ODDITIES),
        *values(unread, few, JSON_ODDITIES, 2),
    ):
        where = dotted(path)
        harmless = (path in unread and name not in NO_JSON) or name in ALLOWED.get(where, ())
        says = (FILE,) if where == "question" else (second,)
        yield Fault(
            KIND, f"{where} is {name}", partial(write, with_second(replaced(record, path, value))), says, harmless
        )
    for where in (("prompt_token_ids", 3), ("outputs", 0, "token_ids", 1)):
        for name, value in (JSON_VALUES | JSON_ODDITIES | TOKENS).items():
            text = with_second(replaced(record, where, value))
            harmless = name in ("zero", "whole") or (where[0] == "outputs" and name == "10 ** 6")
            yield Fault(KIND, f"{dotted(where)} is {name}", partial(write, text), (second,), harmless)
    for name, data in damaged(json.dumps(record).encode(), cuts=8, flips=8):
        if b"\n" not in data:
            yield Fault(KIND, f"line 2: {name}", partial(write, with_second(data)), (second,), _is_record(data))
    whole = lines(records())
    for name, data in damaged(whole, cuts=6, flips=6):
        yield Fault(KIND, f"file: {name}", partial(write, data), (FILE,), all(map(_is_record, _lines(data))))
    first, *others = records()
    yield Fault(KIND, "a question twice", partial(write, lines([first, first, *others])), (second, "q0"))
    yield Fault(KIND, "a question left out", partial(write, lines(others)), (FILE, "q0"))
    yield Fault(KIND, "an empty line", partial(write, with_second("")), (second,))
    yield Fault(
        KIND, "two samples' fields", partial(write, with_second(json.dumps(record | {"outputs": [7, []]}))), (second,)
    )
    yield Fault(KIND, "one JSON list", partial(write, json.dumps(records(), indent=1).encode()), (FILE,))


TOKENS = {
    "2 ** 31": str(2**31),
    "2 ** 32": str(2**32),
    "2 ** 63": str(2**63),
    "2 ** 64": str(2**64),
    "10 ** 6": "1000000",
}
"""Numbers that are no token ids."""


def _lines(data: bytes) -> list[bytes]:
    return data.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")


def _is_record(data: bytes) -> bool:
    """Return True if a line is well-formed, whatever its fields are."""
    return is_json(data) and isinstance(json.loads(data), dict)


def test_the_valid_file_runs() -> None:
    assert run(write(lines(records()))).code in FINISHED


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_recorded_answers(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
