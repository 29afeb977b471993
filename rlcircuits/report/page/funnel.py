"""The funnel: how many questions were left after each stage of the pairing."""

from __future__ import annotations

from dataclasses import dataclass

from rlcircuits.comparison.comparison import Comparison

__all__ = ["Funnel", "Stage", "make_funnel"]

_MEANINGS = {
    "asked": "questions put to both models",
    "answered by both": "both gave an answer",
    "right by both": "both answered right",
    "same prompt length": "both read equally many prompt tokens",
    "length near the mean": "the answers are neither very short nor very long",
    "lengths balanced": "the two answers have similar lengths",
    "sampled": "drawn with a fixed seed, and compared",
}


@dataclass(frozen=True)
class Stage:
    """One stage."""

    name: str
    meaning: str
    left: int
    dropped: int
    percent: float
    """Of the questions asked, from 0 to 100."""


@dataclass(frozen=True)
class Funnel:
    """All stages, and what must be known beside them."""

    stages: tuple[Stage, ...]
    note: str | None


def make_funnel(comparison: Comparison) -> Funnel:
    """Return the funnel of a pair."""
    asked = max(1, next(iter(comparison.funnel.values()), 1))
    stages, last = [], None
    for name, left in comparison.funnel.items():
        dropped = 0 if last is None else last - left
        stages.append(Stage(name, _MEANINGS.get(name, ""), left, dropped, round(100 * left / asked, 1)))
        last = left
    return Funnel(tuple(stages), comparison.note)
