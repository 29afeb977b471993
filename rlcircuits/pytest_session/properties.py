"""Write the numbers of a test's pair into its report: JUnit XML has them as a test's properties."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from rlcircuits.comparison.verdict import judge

if TYPE_CHECKING:
    from rlcircuits.comparison.comparison import Comparison
    from rlcircuits.report.measure_rows import MeasureRow

__all__ = ["PREFIX", "measure_properties", "pair_properties"]

PREFIX = "rlcircuits."
"""How the names of the properties begin; the rest is the name of a column of ``rlcircuits report --csv``."""

Properties = list[tuple[str, str]]


def measure_properties(row: MeasureRow, seconds: float | None) -> Properties:
    """Return what is known of one measure, by name, as text.

    Args:
        row: the measure's numbers.
        seconds: how long its pair took to measure in this session; None if that is not known.
    """
    return _known({**asdict(row), "pair_seconds": seconds})


def pair_properties(comparison: Comparison, seconds: float | None) -> Properties:
    """Return what is known of a pair as a whole, by name, as text."""
    return _known(
        {
            "pair": comparison.name,
            "algorithm": comparison.algorithm,
            "questions": comparison.questions,
            "verdict": judge(comparison).outcome,
            "count": comparison.k,
            "pair_seconds": seconds,
        }
    )


def _known(values: dict[str, object]) -> Properties:
    return [(f"{PREFIX}{name}", str(value)) for name, value in values.items() if not _is_unknown(value)]


def _is_unknown(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
