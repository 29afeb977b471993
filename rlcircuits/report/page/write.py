"""Write the page: one HTML file with its style, its script and its data, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlcircuits.comparison.comparison import Comparison
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.report.headline import make_headline
from rlcircuits.report.page.cautions import make_cautions
from rlcircuits.report.page.data import Missing, PairData, collect_pairs
from rlcircuits.report.page.order import first_to_read, order_pairs
from rlcircuits.report.page.overview import make_overview
from rlcircuits.report.page.pair_page import make_pair_page
from rlcircuits.report.page.release import after_correction, count_verdicts, make_rows, make_verdict
from rlcircuits.report.page.signs import SignRow, make_sign_rows
from rlcircuits.report.page.whole_page import fill_page, save_page
from rlcircuits.report.pools import stored_pools
from rlcircuits.report.variants import first_variants

__all__ = ["to_html", "write_page"]

_CHARACTERS = 4_000_000
"""Characters of questions and answers on a page, over all pairs; compressed, a third of that."""

_SHORTEST, _LONGEST = 80, 800
"""Fewest and most characters of one answer."""

_SCRIPTS = ("page.js", "tables.js", "questions.js", "heat.js", "circuit.js")


def write_page(
    comparisons: Sequence[Comparison],
    path: str | Path,
    unfinished: Sequence[str] = (),
    signs: Sequence[PairSigns] = (),
    folders: Sequence[Path] = (),
) -> Path:
    """Write the page, and replace an older file atomically.

    Args:
        comparisons: what to show; pairs that do not hold come first, else the order is this one.
        path: the file to write; its folder is created if it does not exist.
        unfinished: names of the pairs that were not finished, which leave the release without an outcome.
        signs: the vital signs of pairs for which they were measured.
        folders: each comparison's folder of results, from which answers, edge scores, fingerprints and times are read;
            without them the page says how to get these parts.

    Returns:
        The file's path.
    """
    return save_page(to_html(comparisons, unfinished, signs, folders), path)


def to_html(
    comparisons: Sequence[Comparison],
    unfinished: Sequence[str] = (),
    signs: Sequence[PairSigns] = (),
    folders: Sequence[Path] = (),
) -> str:
    """Return the page as HTML; see :func:`write_page`."""
    pairs = order_pairs(collect_pairs(comparisons, signs, folders))
    anchors = [f"pair-{place}" for place in range(1, len(pairs) + 1)]
    characters = _characters(pairs)
    rows = make_rows(pairs, anchors)
    pools = stored_pools(comparisons, folders) if folders else []
    pages = [make_pair_page(pair, anchor, characters) for pair, anchor in zip(pairs, anchors, strict=True)]
    return fill_page(
        "page.html.jinja",
        _SCRIPTS,
        verdict=make_verdict(make_headline(first_variants(comparisons), unfinished=unfinished)),
        rows=rows,
        overview=make_overview(pairs, anchors, pools) if len(pairs) > 1 else [],
        pools=pools,
        unfolded=first_to_read(pairs, anchors),
        counts=count_verdicts(rows),
        corrected=after_correction(pairs) if pairs else "",
        cautions=make_cautions(pages) if len(pages) > 1 else [],
        pairs=pages,
        others=_others(comparisons, signs),
    )


def _characters(pairs: Sequence[PairData]) -> int:
    """Return how many characters of each question and each answer the page has room for."""
    texts = 3 * sum(pair.comparison.k for pair in pairs)
    return max(_SHORTEST, min(_LONGEST, _CHARACTERS // max(1, texts)))


def _others(comparisons: Sequence[Comparison], signs: Sequence[PairSigns]) -> list[tuple[str, list[SignRow] | Missing]]:
    """Return the signs of what is no pair of the page, such as supervised controls, by name."""
    names = {comparison.name for comparison in comparisons}
    return [(one.name, make_sign_rows(one)) for one in signs if one.name not in names]
