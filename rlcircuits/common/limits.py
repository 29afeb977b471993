"""The range of every numeric option, defined once for files, command line and Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rlcircuits.common.errors import RLCircuitsError, truncated_repr

__all__ = ["LIMITS", "Limits", "check_number"]


@dataclass(frozen=True)
class Limits:
    """The range of an option's values."""

    least: float
    most: float
    whole: bool = True
    """Allow whole numbers only."""
    above: bool = False
    """Exclude ``least`` itself."""
    zero_too: bool = False
    """Allow 0, although it lies below ``least``."""
    why: str = ""
    """What the number means, where that explains the limit."""

    def __str__(self) -> str:
        return f"{self.in_words} is wanted{f' ({self.why})' if self.why else ''}"

    @property
    def in_words(self) -> str:
        """The range, such as ``a whole number from 1 to 10``."""
        kind = "a whole number" if self.whole else "a number"
        start = f"above {self.least:g} and at most" if self.above else f"from {self.least:g} to"
        return f"{'0 or ' if self.zero_too else ''}{kind} {start} {self.most:,}"

    def allow(self, value: object) -> bool:
        """Return whether a value is a number of the right type and within the range."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if not isinstance(value, int) and not math.isfinite(value):
            return False
        low = self.least < value if self.above else self.least <= value
        return (low and value <= self.most) or (self.zero_too and value == 0)


_COUNT = Limits(1, 10**9)
_SEED = Limits(0, 2**63 - 1)

LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        "k": _COUNT,
        "ray_gpus": Limits(0, 1_000, whole=False, why="GPUs that a model needs"),
        "workers": Limits(1, 100_000, why="stages that run at once"),
        "interval": Limits(0, 86_400, whole=False, above=True, why="seconds between two looks"),
        "stop_after": Limits(1, 1_000_000, why="checkpoints"),
        "for_hours": Limits(0, 10_000, whole=False, above=True, why="hours"),
        "alpha": Limits(0, 1, whole=False, above=True, why="the share of the answers' length that is scored"),
        "balance": Limits(0, 1_000, whole=False, why="as a share of two answers' mean length"),
        "seed": _SEED,
        "min_questions": _COUNT,
        "noise_draws": Limits(0, 1_000, why="each of them answers and is scored"),
        "question_count": _COUNT,
        "batch_size": Limits(1, 10**6),
        "batch_tokens": _COUNT,
        "steps": Limits(1, 1_000, why="each is a forward and a backward"),
        # Dividing logits by less overflows for current models, and vLLM replaces lower values.
        "temperature": Limits(0.01, 100, whole=False, zero_too=True, why="0 is greedy decoding"),
        "top_p": Limits(0, 1, whole=False, above=True),
        "max_new_tokens": Limits(1, 10**7),
        "n": Limits(1, 10_000, why="answers to every question"),
        "t_cut": Limits(1, 10**7),
        "margin": Limits(0, 1, whole=False, above=True, why="a share: 0.02 is two points"),
        "claimed_accuracy": Limits(0, 1, whole=False, why="a share: 0.97 is 97 %"),
        "minimum_overlap": Limits(0, 1, whole=False, above=True, why="1 is the overlap that noise leaves"),
        "minimum_faithfulness": Limits(0, 1, whole=False, above=True, why="1 is all that the model does"),
        "size": Limits(0, 0.99, whole=False, above=True, why="the share of all edges that a circuit has"),
        "max_unfinished": Limits(0, 1, whole=False, why="the share of answers without an end"),
    }
)
"""The limits by option name."""


def check_number(name: str, value: object, called: str | None = None) -> None:
    """Raise RLCircuitsError unless a value is within the limits of option ``name``, which the text calls ``called``."""
    if not LIMITS[name].allow(value):
        raise RLCircuitsError(f"{called or name} is {truncated_repr(value)}; {LIMITS[name]}")
