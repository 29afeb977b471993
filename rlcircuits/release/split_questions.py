"""Split the compared questions in two: circuits are found on those at even places, and judged on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlcircuits.graph.edge_scores import EdgeScores

FIND, JUDGE = 0, 1
"""The parity of a question's place."""


def first_rows(places: Sequence[int], parity: int) -> list[int]:
    """Return the first row of each question of one half.

    Args:
        places: the question of each row.
        parity: ``FIND`` or ``JUDGE``.
    """
    first: dict[int, int] = {}
    for row, place in enumerate(places):
        first.setdefault(place, row)
    return [row for place, row in first.items() if place % 2 == parity]


def scores_to_find_on(scores: EdgeScores, places: Sequence[int]) -> EdgeScores:
    """Return the scores of the questions that circuits are found on, one row for each question: the mean of its rows.

    Args:
        scores: scores of all rows.
        places: the question of each row.
    """
    of_row = np.asarray(places)
    rows = [np.flatnonzero(of_row == place) for place in sorted(set(places)) if place % 2 == FIND]
    values = scores.values.new_empty(len(rows), *scores.values.shape[1:])
    for place, some in enumerate(rows):
        values[place] = scores.values[some].mean(0)
    return replace(scores.of_rows([int(some[0]) for some in rows]), values=values)
