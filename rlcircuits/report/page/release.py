"""The first line of the page, and the table with a row a pair."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlcircuits.comparison.evidence import judge_comparisons
from rlcircuits.comparison.profiles import GATE_METRICS
from rlcircuits.report.headline import Headline
from rlcircuits.report.outcome_words import verdict_words
from rlcircuits.report.page.data import PairData
from rlcircuits.report.page.marks import Mark, mark_of
from rlcircuits.report.page.numbers import percent, points
from rlcircuits.report.terminal import SCORED
from rlcircuits.report.variants import first_variants

__all__ = ["PairRow", "Verdict", "after_correction", "count_verdicts", "make_rows", "make_verdict"]

_COUNTED = {
    "does not hold": "do not hold",
    "inconclusive": "inconclusive",
    "no verdict": "without a verdict",
    "holds": "hold",
}
"""The words of a verdict, and those of several."""


@dataclass(frozen=True)
class Verdict:
    """What the page begins with."""

    mark: Mark
    why: str
    next_step: str


@dataclass(frozen=True)
class PairRow:
    """One pair in the table."""

    anchor: str
    name: str
    algorithm: str
    questions: str
    mark: Mark
    words: str
    accuracies: str
    """Accuracy before and after."""
    numbers: tuple[tuple[str, float], ...]
    """Accuracy in points and the metrics in percent, each with what it sorts by."""


def after_correction(pairs: Sequence[PairData]) -> str:
    """Return how many pairs that do not hold fail the release by themselves; empty where all or none of them do."""
    release = judge_comparisons(first_variants([pair.comparison for pair in pairs]))
    failing, found = len(release.failing), sum(each.pair.outcome == "does not hold" for each in release.pairs)
    if failing == found:
        return ""
    if found == 1:
        which = "the pair that does not hold is no evidence"
    else:
        which = f"{failing or 'none'} of the {found} that do not hold {'are' if failing > 1 else 'is'} evidence"
    return f"Among {len(release.pairs)} pairs some fail by chance; corrected for that, {which} against the release."


def make_verdict(headline: Headline) -> Verdict:
    """Return the verdict of a release or of one pair."""
    return Verdict(mark_of(headline.outcome), headline.why, headline.next_step)


def make_rows(pairs: Sequence[PairData], anchors: Sequence[str]) -> list[PairRow]:
    """Return the table's rows, in the order of the pairs."""
    return [_row(pair, anchor) for pair, anchor in zip(pairs, anchors, strict=True)]


def count_verdicts(rows: Sequence[PairRow]) -> str:
    """Return how many pairs have each verdict, those to look at first: "1 does not hold, 2 hold"."""
    found = Counter(row.mark.words for row in rows)
    return ", ".join(f"{found[one]} {one if found[one] == 1 else many}" for one, many in _COUNTED.items() if found[one])


def _row(pair: PairData, anchor: str) -> PairRow:
    comparison = pair.comparison
    change = comparison.accuracy.after - comparison.accuracy.before
    scored = "" if comparison.score_on == "own" else f", scored on {SCORED[comparison.score_on]}"
    moved = [comparison.effects[metric].change for metric in GATE_METRICS]
    return PairRow(
        anchor=anchor,
        name=comparison.name,
        algorithm=comparison.algorithm,
        questions=f"{comparison.questions}{scored}",
        mark=mark_of(pair.verdict.outcome),
        words=verdict_words(pair.verdict),
        accuracies=f"{comparison.accuracy.before:.3f} → {comparison.accuracy.after:.3f}",
        numbers=((points(change), change), *((percent(each), _sortable(each)) for each in moved)),
    )


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value
