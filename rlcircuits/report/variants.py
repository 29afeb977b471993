"""Find the comparisons of one pair that differ in whose answers were scored."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.common.choices import SCORE_ON
from rlcircuits.comparison.comparison import Comparison


def group_variants(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Return the comparisons in groups that differ only in whose answers were scored, the paper's way first."""
    together: dict[tuple[str, ...], list[Comparison]] = {}
    for one in comparisons:
        together.setdefault((one.before, one.after, one.questions, one.split, one.granularity), []).append(one)
    order: dict[str, int] = {name: place for place, name in enumerate(SCORE_ON)}
    groups = []
    for found in together.values():
        if len({one.score_on for one in found}) > 1:
            groups.append(sorted(found, key=lambda one: order.get(one.score_on, len(order))))
        else:
            groups += [[one] for one in found]
    return groups


def first_variants(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the first comparison of each group: a pair's verdict is that of its first variant."""
    return [group[0] for group in group_variants(comparisons)]
