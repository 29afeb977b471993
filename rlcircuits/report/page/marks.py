"""The mark, the class and the plain words of an outcome. Colour is never alone: each has a sign and a word."""

from __future__ import annotations

from dataclasses import dataclass

from rlcircuits.comparison.outcome import Outcome

__all__ = ["Mark", "mark_of"]


@dataclass(frozen=True)
class Mark:
    """How an outcome is shown."""

    sign: str
    tone: str
    """The class of its colour in the style."""
    words: str
    title: str
    """What the page's first line says of the release."""
    meaning: str
    """One sentence for a reader who does not know the word."""


_MARKS: dict[Outcome | None, Mark] = {
    "holds": Mark(
        "✓", "good", "holds", "The release holds", "Everything that was asserted of it is backed by the measurements."
    ),
    "does not hold": Mark(
        "✗",
        "bad",
        "does not hold",
        "The release does not hold",
        "There is evidence against something that was asserted of it.",
    ),
    "inconclusive": Mark(
        "?",
        "open",
        "inconclusive",
        "Inconclusive",
        "Too little is known to say that it holds, and nothing speaks against it clearly enough.",
    ),
    None: Mark(
        "–", "open", "no verdict", "No verdict", "Not every pair was measured, so that the release cannot be judged."
    ),
}


def mark_of(outcome: Outcome | None) -> Mark:
    """Return how an outcome is shown; None is that of a release without a verdict."""
    return _MARKS[outcome]
