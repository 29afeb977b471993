"""The order of pairs on the page: those to look at first come first."""

from __future__ import annotations

from collections.abc import Sequence

from rlcircuits.comparison.evidence import judge_comparisons
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.report.page.data import PairData

__all__ = ["first_to_read", "order_pairs"]

_ORDER: tuple[Outcome, ...] = ("does not hold", "inconclusive", "holds")


def order_pairs(pairs: Sequence[PairData]) -> list[PairData]:
    """Return the pairs, those that do not hold first, and of them those that fail the release by themselves.

    Pairs with one outcome keep their order.
    """
    if not pairs:
        return []
    release = judge_comparisons([pair.comparison for pair in pairs])
    ranked = [
        (_ORDER.index(pair.verdict.outcome), not judged.fails_release, place)
        for place, (pair, judged) in enumerate(zip(pairs, release.pairs, strict=True))
    ]
    return [pairs[place] for *_, place in sorted(ranked)]


def first_to_read(pairs: Sequence[PairData], anchors: Sequence[str]) -> str | None:
    """Return the anchor of the ordered pair that is unfolded: the first, unless several pairs all hold."""
    if not pairs or (len(pairs) > 1 and pairs[0].verdict.outcome == "holds"):
        return None
    return anchors[0]
