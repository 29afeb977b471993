"""Pairs files: every field missing, misspelt or of every type, and damaged files."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fault_check import Fault, run
from mutations import TOML_ODDITIES, TOML_VALUES, damaged, dotted, fields, to_toml, values
from valid_inputs import AFTER, BEFORE, QUESTIONS

KIND = "pairs file"
FILE = "release.toml"

VALID: dict[str, Any] = {
    "settings": {
        "k": 2, "alpha": 0.3, "balance": 0.5, "seed": 42, "min_questions": 2, "score_on": "own", "noise_draws": 3,
        "question_count": 3, "split": "test", "engine": "transformers", "batch_size": 64, "granularity": "sublayer",
        "device": "cpu", "dtype": "float32", "batch_tokens": 4096, "recompute": False, "trust_remote_code": False,
        "sampling": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "seed": 42, "n": 1},
        "prompting": {"template": "{question}", "system": "1", "few_shot": "1", "chat": True},
    },
    "circuits": {"minimum_overlap": 0.5, "minimum_faithfulness": 0.5, "size": 0.5, "ablation": "mean"},
    "questions": [
        {
            "name": "ours", "file": "ours.jsonl", "question": "question", "answer": "answer", "id": "id",
            "gold": "plain", "grader": "exact", "split": "test", "count": 3,
        }
    ],
    "pair": [
        {
            "name": "release", "before": BEFORE, "after": AFTER, "profile": "online-rl", "algorithm": "grpo",
            "dtype": "float32", "questions": "ours", "prompting": {"template": "{question}"},
            "circuits": {"size": 0.2}, "does_not_hold": {"kurtosis": "9.9 to 10.1, p = 0.4"},
        }
    ],
}  # fmt: skip

_NUMBERS = {"whole"}
_SHARES = {"fraction"}
_SEEDS = {"zero", "whole"}
_TEXTS = {"text", "NUL", "line feed", "terminal escape", "10,000 letters"}
_SWITCHES = {"true"}
ALLOWED = {
    "settings": {"table"},
    "settings.k": _NUMBERS,
    "settings.alpha": _SHARES,
    "settings.balance": {"zero", "whole", "fraction", "minus zero"},
    "settings.seed": _SEEDS,
    "settings.min_questions": set[str](),
    "settings.noise_draws": _SEEDS,
    "settings.question_count": _NUMBERS,
    "settings.split": _TEXTS,
    "settings.batch_size": _NUMBERS,
    "settings.batch_tokens": _NUMBERS,
    "settings.recompute": _SWITCHES,
    "settings.trust_remote_code": _SWITCHES,
    "settings.sampling": {"table"},
    "settings.sampling.temperature": {"zero", "whole", "fraction", "minus zero"},
    "settings.sampling.top_p": _SHARES,
    "settings.sampling.max_new_tokens": _NUMBERS,
    "settings.sampling.seed": _SEEDS,
    "settings.sampling.n": _NUMBERS,
    "settings.prompting": {"table"},
    "settings.prompting.system": {*_TEXTS, "empty text"},
    "settings.prompting.few_shot": {*_TEXTS, "empty text"},
    "settings.prompting.chat": _SWITCHES,
    "circuits": {"table"},
    **{f"circuits.{name}": _SHARES for name in ("minimum_overlap", "minimum_faithfulness", "size")},
    "pair.0.circuits": {"table", "true"},
    "pair.0.circuits.size": _SHARES,
    "questions.0.split": _TEXTS,
    "questions.0.count": set[str](),
    # A profile allows any name of an algorithm.
    "pair.0.algorithm": {*_TEXTS, "empty text"},
    "pair.0.prompting": {"table"},
    "pair.0.does_not_hold": {"table"},
    "pair.0.does_not_hold.kurtosis": {*_TEXTS, "empty text"},
}
"""The values, by name, that each field accepts. Other fields accept none."""

IN_QUESTIONS = {"questions.0.question", "questions.0.answer", "questions.0.id"}

NEEDED = {"questions", "questions.0.name", "questions.0.file", "pair", "pair.0.name", "pair.0.before", "pair.0.after"}
"""The required fields."""


def write(text: str | bytes) -> list[str]:
    """Write the pairs file and the files that it names."""
    Path("ours.jsonl").write_text(QUESTIONS)
    Path(FILE).write_bytes(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
    return ["plan", FILE]


def faults() -> Iterator[Fault]:
    for path in fields(VALID):
        where, last = dotted(path), str(path[-1])
        yield Fault(KIND, f"{where} missing", partial(write, to_toml(VALID, path)), (FILE, last), where not in NEEDED)
        misspelt = to_toml(VALID).replace(f"{last} = ", f"{last}_ = ", 1)
        yield Fault(KIND, f"{where} misspelt", partial(write, misspelt), (FILE, f"{last}_"))
        doubled = to_toml(VALID).replace(f"{last} = ", f"{last} = 1, {last} = ", 1)
        yield Fault(KIND, f"{where} twice", partial(write, doubled), (FILE,))
    for path, name, value in values(fields(VALID), TOML_VALUES, TOML_ODDITIES, 9):
        where = dotted(path)
        harmless = name in ALLOWED.get(where, ())
        # The question file determines which fields there are, and how many questions.
        in_file = (where in IN_QUESTIONS and name in _TEXTS) or (where, name) == ("questions.0.count", "whole")
        says = "ours.jsonl" if in_file else FILE
        yield Fault(KIND, f"{where} is {name}", partial(write, to_toml(VALID, path, value)), (says,), harmless)
    for name, data in damaged(to_toml(VALID).encode(), cuts=12, flips=12):
        yield Fault(KIND, name, partial(write, data), (FILE,), _is_toml(data))


def _is_toml(data: bytes) -> bool:
    try:
        tomllib.loads(data.decode("utf-8-sig"))
    except ValueError:
        return False
    return True


def test_the_valid_file_runs() -> None:
    assert run(write(to_toml(VALID))).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_pairs_file(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
