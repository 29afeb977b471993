"""Record the throughput of a run in its store, so that a plan can estimate how long the rest takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

FILE_NAME = "pace.jsonl"

Work = Literal["answers", "scores"]


@dataclass(frozen=True)
class Throughput:
    """The throughput of one stage."""

    work: Work
    tokens: int
    """Tokens generated (answers) or read (scores)."""
    seconds: float
    """Duration, without loading the model."""


_ADAPTER: TypeAdapter[Throughput] = TypeAdapter(Throughput)


def note_throughput(store: Path, work: Work, tokens: int, seconds: float) -> None:
    """Append a stage to the store's file."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / FILE_NAME).open("ab") as file:
        file.write(_ADAPTER.dump_json(Throughput(work, tokens, seconds)) + b"\n")


def read_throughput(store: Path) -> tuple[Throughput, ...]:
    """Return the stages that were recorded in a store, in their order; none without the file."""
    try:
        lines = (store / FILE_NAME).read_bytes().splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        try:
            found.append(_ADAPTER.validate_json(line))
        except ValidationError:
            continue  # truncated by a killed process; the other lines will do
    return tuple(found)


def tokens_per_second(store: Path, work: Work) -> float | None:
    """Return the throughput over the last five stages of this work, in tokens a second; None without any."""
    last = [each for each in read_throughput(store) if each.work == work and each.tokens and each.seconds > 0][-5:]
    return sum(stage.tokens for stage in last) / sum(stage.seconds for stage in last) if last else None
