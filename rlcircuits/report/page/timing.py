"""How long the run took, by the kind of work, as its store recorded it."""

from __future__ import annotations

from dataclasses import dataclass

from rlcircuits.release.throughput import Throughput
from rlcircuits.report.page.data import Missing

__all__ = ["Work", "make_timing"]

_NAMES = {"answers": "answers generated", "scores": "answers scored (attribution)"}


@dataclass(frozen=True)
class Work:
    """One kind of work."""

    name: str
    stages: int
    tokens: str
    time: str
    speed: str


def make_timing(stages: tuple[Throughput, ...] | Missing) -> list[Work] | Missing:
    """Return each kind of work, without the loading of models."""
    if isinstance(stages, Missing):
        return stages
    found = []
    for work, name in _NAMES.items():
        some = [stage for stage in stages if stage.work == work]
        tokens, seconds = sum(stage.tokens for stage in some), sum(stage.seconds for stage in some)
        if some:
            speed = f"{tokens / seconds:,.0f} tokens a second" if seconds else ""
            found.append(Work(name, len(some), f"{tokens:,}", _time(seconds), speed))
    return found


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
