"""Compare two JSON documents value by value: what a file says, and what was recomputed.

The walk knows no field by name, so a field that a later version adds is compared too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlcircuits.common.errors import truncated_repr

ROUNDING = 1e-9
"""Largest relative difference of two floats that counts as rounding.

JSON holds every float exactly, so the same code on the same machine recomputes each number bit by bit. Another version
of numpy or another processor may sum in another order. That moves a mean by about 1e-15 of its size, and a small
difference of two means by up to about 1e-10."""

ABSENT = "(absent)"
"""Stands for a value that one of the two documents does not have."""


@dataclass(frozen=True)
class Difference:
    """One value that a file and the recomputation do not share."""

    field: str
    """Where the value stands, such as ``comparison.effects.intensity.p_up``."""
    found: Any
    """What the file says."""
    recomputed: Any
    """What it should say."""

    @property
    def relative(self) -> float:
        """Return the difference as a share of the larger of two finite floats; infinity for anything else."""
        found, recomputed = self.found, self.recomputed
        if not (isinstance(found, float) and isinstance(recomputed, float) and math.isfinite(found + recomputed)):
            return math.inf
        return abs(found - recomputed) / max(abs(found), abs(recomputed))

    @property
    def is_rounding(self) -> bool:
        """Return whether the two values differ by rounding only."""
        return self.relative <= ROUNDING

    @property
    def words(self) -> str:
        """Return the difference in words, such as ``comparison.t_cut: file 8, recomputed 9``."""
        return f"{self.field}: file {_shown(self.found)}, recomputed {_shown(self.recomputed)}"


def compare_documents(
    found: Mapping[str, Any], recomputed: Mapping[str, Any], is_left_out: Callable[[str], bool]
) -> dict[str, Difference | None]:
    """Compare two documents of JSON types.

    Args:
        found: what a file holds.
        recomputed: what it should hold.
        is_left_out: called with a field; returns whether it is not compared.

    Returns:
        For each field of a number, text, truth value, null or empty container: its difference, or None if both
        documents have the same value.
    """
    left, right = dict(leaves(found)), dict(leaves(recomputed))
    compared: dict[str, Difference | None] = {}
    for field in {**right, **left}:
        if not is_left_out(field):
            values = left.get(field, ABSENT), right.get(field, ABSENT)
            compared[field] = None if _same(*values) else Difference(field, *values)
    return compared


def leaves(value: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a document that holds no other values, with its field."""
    if isinstance(value, dict | list) and value:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, f"{field}.{key}" if field else str(key))
    else:
        yield field, value


def _same(left: Any, right: Any) -> bool:
    # True == 1 in Python, but not in JSON.
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _shown(value: Any) -> str:
    return value if value is ABSENT else truncated_repr(value)
