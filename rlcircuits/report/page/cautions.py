"""What to be careful about over all pairs of a release, counted from what each pair's page says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.report.page.pair_page import PairPage

__all__ = ["Caution", "make_cautions"]


@dataclass(frozen=True)
class Caution:
    """One thing to be careful about, with the pairs that it is about."""

    kind: str
    pairs: tuple[tuple[str, str], ...]
    """Anchor and name of each."""


def make_cautions(pages: Sequence[PairPage]) -> list[Caution]:
    """Return what to be careful about over all pairs, what concerns most of them first."""
    found: dict[str, dict[str, str]] = {}
    for page in pages:
        for reason in page.trust:
            if not reason.good:
                found.setdefault(reason.kind, {})[page.anchor] = page.name
    cautions = [Caution(kind, tuple(pairs.items())) for kind, pairs in found.items()]
    return sorted(cautions, key=lambda caution: -len(caution.pairs))
