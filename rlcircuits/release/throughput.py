"""How fast answers and scores were made, noted beside them, so that a plan can say how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

FILE_NAME = "pace.jsonl"

Work = Literal["answers", "scores"]


@dataclass(frozen=True)
class Throughput:
    """One piece of work done."""

    work: Work
    tokens: int
    """Written (answers) or read (scores)."""
    seconds: float
    """Without loading the model."""


_PACE: TypeAdapter[Throughput] = TypeAdapter(Throughput)


def note_throughput(store: Path, work: Work, tokens: int, seconds: float) -> None:
    """Add a line to the store's file."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / FILE_NAME).open("ab") as file:
        file.write(_PACE.dump_json(Throughput(work, tokens, seconds)) + b"\n")


def tokens_per_second(store: Path, work: Work) -> float | None:
    """What was measured last of this work, tokens a second over the last few pieces; None where nothing was."""
    try:
        lines = (store / FILE_NAME).read_bytes().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        try:
            found.append(_PACE.validate_json(line))
        except ValidationError:
            continue  # cut off by a killed process; it is a note and no more
    last = [pace for pace in found if pace.work == work and pace.tokens and pace.seconds > 0][-5:]
    return sum(pace.tokens for pace in last) / sum(pace.seconds for pace in last) if last else None
