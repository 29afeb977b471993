"""Stored answers: every field missing, misspelt or of every type, in header and answers, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from fault_check import Fault, run
from mutations import JSON_ODDITIES, JSON_VALUES, damaged, dotted, fields, is_json, renamed, replaced, values, without
from valid_inputs import BEFORE, answers

KIND = "stored answers"
FILE = "answers.jsonl"
HEADER, FIRST, *REST = [json.loads(line) for line in answers().splitlines()]

_TEXTS = {"text", "empty text"}
_NUMBERS = {"zero", "minus one", "whole", "31 digits"}
ALLOWED: Mapping[str, set[str]] = {
    **dict.fromkeys(("model", "question_set", "split", "text", "question_id"), _TEXTS),
    **{key: {"null", *_TEXTS} for key in ("engine", "key", "problem")},
    **{key: {"null", *_NUMBERS} for key in ("batch_size", "place")},
    **{key: {"true"} for key in ("correct", "finished")},
    "sampling": {"object"},
    "sampling.temperature": {"zero", "minus zero", "whole", "fraction"},
    "sampling.top_p": {"fraction"},
    "sampling.max_new_tokens": {"null", "whole"},
    "sampling.seed": {"zero", "whole"},
    "prompting": {"null", "object"},
    "answer_ids": {"list"},  # an answer without tokens is not scored
}
"""The values, by name, that each field accepts."""

WITH_DEFAULTS = {
    "prompting", "engine", "batch_size", "key", "problem", "sample", "place",
    *(f"sampling.{name}" for name in HEADER["sampling"]),
}  # fmt: skip


def write(data: bytes) -> list[str]:
    """Write the file, and return the command that scores its answers."""
    Path(FILE).write_bytes(data)
    return ["attribute", BEFORE, "--answers", FILE, "--out", "out.safetensors", "--t-cut", "2"]


def with_header(line: str) -> bytes:
    """Return the file with another header."""
    return "\n".join([line, *map(json.dumps, (FIRST, *REST)), ""]).encode()


def with_first(line: str) -> bytes:
    """Return the file with another first answer."""
    return "\n".join([json.dumps(HEADER), line, *map(json.dumps, REST), ""]).encode()


def faults() -> Iterator[Fault]:
    for number, document, around in ((1, HEADER, with_header), (2, FIRST, with_first)):
        says = (f"{FILE}:{number}",) if number == 2 else (FILE,)
        for path in fields(document):
            where = dotted(path)
            harmless = where in WITH_DEFAULTS
            missing, misspelt = around(without(document, path)), around(renamed(document, path))
            yield Fault(KIND, f"{where} missing", partial(write, missing), says, harmless)
            yield Fault(KIND, f"{where} misspelt", partial(write, misspelt), says, harmless)
        for path, name, value in values(fields(document), JSON_VALUES, JSON_ODDITIES, 5):
            where = dotted(path)
            changed = around(replaced(document, path, value))
            yield Fault(KIND, f"{where} is {name}", partial(write, changed), says, name in ALLOWED.get(where, ()))
    for name, value in {**JSON_VALUES, **TOKENS}.items():
        changed = with_first(replaced(FIRST, ("answer_ids", 1), value))
        # Only attribution knows the model's vocabulary, and it names answers by their index.
        says = ("sequence 0",) if name in ("outside the vocabulary", "2 ** 31 - 1") else (f"{FILE}:2",)
        yield Fault(KIND, f"a token is {name}", partial(write, changed), says, name in ("zero", "whole"))
    for name, data in damaged(answers(), cuts=12, flips=12):
        lines = data.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
        harmless = len(lines) == 2 + len(REST) and all(map(is_json, lines))
        yield Fault(KIND, f"file: {name}", partial(write, data), (FILE,), harmless)
    yield Fault(KIND, "a header alone", partial(write, json.dumps(HEADER).encode()), (FILE,))
    yield Fault(KIND, "an answer twice", partial(write, answers() + json.dumps(FIRST).encode()), (f"{FILE}:5", "q0"))
    yield Fault(
        KIND,
        "an answer too many",
        partial(write, answers() + json.dumps(FIRST | {"question_id": "q9"}).encode()),
        (FILE,),
    )
    yield Fault(KIND, "a header twice", partial(write, json.dumps(HEADER).encode() + b"\n" + answers()), (f"{FILE}:2",))


TOKENS = {"outside the vocabulary": "17", "2 ** 31 - 1": str(2**31 - 1), "2 ** 31": str(2**31), "2 ** 63": str(2**63)}
"""Numbers that are no token ids of the model."""


def test_the_valid_file_runs() -> None:
    assert run(write(answers())).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_stored_answers(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
