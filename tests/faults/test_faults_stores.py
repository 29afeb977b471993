"""Caches: answers and scores of earlier runs, and their notes of throughput, of every type and damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import safetensors
import torch
from fault_check import Fault, run
from mutations import JSON_ODDITIES, JSON_VALUES, damaged, fields, replaced, values, without
from safetensors.torch import load_file, save_file
from valid_inputs import AFTER, BEFORE, answers

KIND = "store"
ANSWERS = "answers.jsonl"
SCORE = [
    "attribute", BEFORE, "--answers", ANSWERS, "--out", "out.safetensors", "--store", "store", "--batch-tokens", "11",
]  # fmt: skip
ANSWER = ["answer", BEFORE, "--count", "3", "--max-new-tokens", "2", "--out", "out.jsonl", "--store", "store"]
MANIFEST = (
    "format", "version", "key", "model", "fingerprint", "sequences", "granularity", "backend", "batch_tokens",
    "batches",
)  # fmt: skip
KINDS = ("null", "whole", "text", "list", "5,000 digits")


@cache
def store() -> dict[str, bytes]:
    """Return the files of a cache in which both commands have finished."""
    here = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path(ANSWERS).write_bytes(answers())
            for command in (SCORE, ANSWER):
                assert run(command).code == 0
            files = [file for file in Path("store").rglob("*") if file.is_file() and not file.name.startswith(".")]
            return {str(file): file.read_bytes() for file in files}
        finally:
            os.chdir(here)


def lay_out() -> None:
    """Write the cache without the last scores, so that the command has something to do."""
    Path(ANSWERS).write_bytes(answers())
    for name, data in store().items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    max(Path("store").rglob("batch-*")).unlink()


def with_manifest(field: str, value: str | None) -> list[str]:
    """Return the cache with another value in a manifest's field, or without the field."""
    lay_out()
    (file,) = Path("store").rglob("manifest.json")
    document = json.loads(file.read_bytes())
    file.write_text(without(document, (field,)) if value is None else replaced(document, (field,), value))
    return SCORE


def with_header(field: str, value: str | None) -> list[str]:
    """Return the cache with another value in a field of the answers' header, or without the field."""
    lay_out()
    (file,) = Path("store").glob("*.jsonl")
    first, rest = file.read_bytes().split(b"\n", 1)
    document = json.loads(first)
    text = without(document, (field,)) if value is None else replaced(document, (field,), value)
    file.write_bytes(text.encode() + b"\n" + rest)
    return ANSWER


def with_damage(pattern: str, damage: str) -> list[str]:
    """Return the cache with one damaged file."""
    lay_out()
    file = min(Path("store").rglob(pattern))
    data = file.read_bytes()
    if pattern.startswith("batch"):
        others = {"cut short": data[: len(data) // 2], "emptied": b"", "zeroed": bytes(len(data))}
        file.write_bytes(others[damage])
    else:
        file.write_bytes(dict(damaged(data))[damage])
    return ANSWER if pattern == "*.jsonl" else SCORE


def with_batch(indices: list[int]) -> list[str]:
    """Return the cache with scores whose manifest names other sequences."""
    lay_out()
    file = min(Path("store").rglob("batch-*"))
    with safetensors.safe_open(str(file), framework="pt") as opened:
        metadata = opened.metadata()
    save_file({**load_file(file), "indices": torch.tensor(indices)}, file, metadata=metadata)
    return SCORE


def faults() -> Iterator[Fault]:
    for field in MANIFEST:
        for name in (None, *KINDS):
            value = None if name is None else (JSON_VALUES | JSON_ODDITIES)[name]
            made = partial(with_manifest, field, value)
            # A field that is only informative accepts any value of its type.
            harmless = field in ("format", "model", "fingerprint", "sequences", "granularity") and name == "text"
            harmless |= (field, name) in (("version", "whole"), ("batch_tokens", "whole"), ("batch_tokens", "null"))
            what = "missing" if name is None else f"is {name}"
            yield Fault(KIND, f"manifest: {field} {what}", made, ("manifest.json",), harmless)
    for batches in ("[[0]]", "[[0], [0], [1], [2]]", "[[0, 1, 2, 3]]", "[[-1, 0, 1]]"):
        yield Fault(
            KIND, f"manifest: batches are {batches}", partial(with_manifest, "batches", batches), ("manifest.json",)
        )
    for name in ("cut at byte 0", "UTF-16", "NUL within", "random bytes", "rubbish at the end", "a list", "null"):
        yield Fault(KIND, f"manifest: {name}", partial(with_damage, "manifest.json", name), ("manifest.json",))
    for field in ("format", "version", "model", "sampling", "count", "key"):
        for name in (None, *KINDS):
            value = None if name is None else (JSON_VALUES | JSON_ODDITIES)[name]
            what = "missing" if name is None else f"is {name}"
            harmless = (field, name) in (("model", "text"), ("count", "whole"), ("sampling", "object"))
            yield Fault(KIND, f"answers: {field} {what}", partial(with_header, field, value), (".jsonl:1",), harmless)
    for name in ("cut at byte 0", "UTF-16", "NUL within", "random bytes", "an executable", "a list", "null"):
        # A file without a complete first line was interrupted there, and is begun again.
        harmless = name in ("cut at byte 0", "random bytes", "an executable")
        yield Fault(KIND, f"answers: {name}", partial(with_damage, "*.jsonl", name), (".jsonl",), harmless)
    for name in ("cut short", "emptied", "zeroed"):
        # Scores that cannot be read are computed again.
        yield Fault(KIND, f"scores: {name}", partial(with_damage, "batch-*", name), ("",), True)
    for indices in ([99], [-1], [0, 1], []):
        # Computed again as well, unless they would replace those of other sequences.
        yield Fault(KIND, f"scores: of {indices}", partial(with_batch, indices), ("batch-",), indices != [0, 1])
    note = {"work": "answers", "tokens": 900, "seconds": 1.5}
    lines = json.dumps(note) + "\n" + json.dumps(note | {"work": "scores"}) + "\n"
    for path, name, value in values(fields(note), JSON_VALUES, JSON_ODDITIES, 4):
        text = lines + replaced(note, path, value) + "\n"
        yield Fault("notes of speed", f"{path[0]} is {name}", partial(plan, text.encode()), ("",), True)
    for name, data in damaged(lines.encode(), cuts=3, flips=3):
        yield Fault("notes of speed", name, partial(plan, data), ("",), True)


def plan(notes: bytes) -> list[str]:
    """Plan a run into an output folder with these notes of the throughput of earlier runs, which are only hints."""
    Path("out", "store").mkdir(parents=True)
    Path("out", "store", "pace.jsonl").write_bytes(notes)
    pair = f'[[pair]]\nname = "one"\nbefore = "{BEFORE}"\nafter = "{AFTER}"\nalgorithm = "grpo"\n'
    Path("release.toml").write_text(f"[settings]\nquestion_count = 20\n{pair}")
    return ["plan", "release.toml", "--output", "out"]


@pytest.mark.parametrize("command", [SCORE, ANSWER])
def test_the_valid_store_runs(command: list[str]) -> None:
    lay_out()
    (manifest,) = Path("store").rglob("manifest.json")
    assert set(json.loads(manifest.read_bytes())) == set(MANIFEST)
    assert run(command).code == 0


@pytest.mark.parametrize("fault", list(faults()), ids=str)
def test_store(fault: Fault, tried: Callable[[Fault], None]) -> None:
    tried(fault)
