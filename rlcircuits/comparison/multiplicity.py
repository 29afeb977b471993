"""Judge a release as a whole, over all its pairs and question sets.

A pair here is one pair of checkpoints on one question set.

**The release holds if every pair holds**, with no correction. That the release holds claims that *all* pairs show what
they assert. The claim is wrong as soon as one pair does not, and then that pair's own test must go wrong for the
release to hold. So the chance of a wrong *holds* is at most the level of the single test (an intersection-union test),
and a correction would only lose power.

**The release does not hold if any pair fails**, and here more pairs mean more chances to fail by accident. Twenty
harmless pairs that each fail wrongly in 5 % of runs fail the release in 64 %. So the evidence against the pairs, one
p-value a pair, is corrected by Holm's method over all pairs of the release, those that hold included. The chance that
any harmless pair fails the release is then at most the level, however many pairs there are and however they depend on
one another; pairs that share a base or a question set do.

**A release of one pair is judged as that pair is**, by the levels of the pair's own rule: there is nothing to correct.

**Otherwise the release is inconclusive**: a pair was inconclusive, or one failed on evidence that is not rare among so
many pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.comparison.outcome import OUTCOMES, Outcome
from rlcircuits.comparison.significance import ACCURACY_LEVEL, p_in_words

RELEASE_LEVEL = ACCURACY_LEVEL
"""Largest chance that a release of several pairs fails although every pair shows what it asserts.

It is the level at which a single pair fails for a fall in accuracy."""


@dataclass(frozen=True)
class PairOutcome:
    """The outcome of one pair on one question set, with the evidence against the pair."""

    name: str
    """Unique within the release."""
    outcome: Outcome
    p_against: float
    """P-value of the evidence that the pair does not show what it asserts: the p that decides whether the pair's own
    outcome is ``does not hold``, such as that of a fall in accuracy. If several can decide it, that of
    :func:`combine_evidence`. 0 for what is certain without a test, such as that no tensor changed."""

    def __post_init__(self) -> None:
        validate_fields(self)
        where = f"pair {truncated_repr(self.name)}"
        if self.outcome not in OUTCOMES:
            raise RLCircuitsError(
                f"{where}: outcome is {truncated_repr(self.outcome)}; it must be one of {', '.join(OUTCOMES)}"
            )
        _check_p(f"{where}: p_against", self.p_against)

    def __repr__(self) -> str:
        p = f"p against = {p_in_words(self.p_against)}"
        return short_repr(self, elided_repr(self.name), self.outcome, p)


@dataclass(frozen=True)
class CorrectedPair:
    """One pair of a release, with its evidence corrected over all pairs."""

    pair: PairOutcome
    p_corrected: float
    """Holm's corrected ``p_against``."""
    fails_release: bool
    """Whether the pair alone is enough for the release not to hold."""

    def __repr__(self) -> str:
        return short_repr(self, elided_repr(self.pair.name), self.words)

    @property
    def words(self) -> str:
        """Return the pair's outcome and, if it does not hold, what the correction makes of its p."""
        if self.pair.outcome != "does not hold":
            return self.pair.outcome
        corrected = p_in_words(self.p_corrected)
        if self.fails_release:
            return f"does not hold, p = {corrected} corrected over all pairs"
        return f"does not hold, but p = {p_in_words(self.pair.p_against)} is {corrected} corrected over all pairs"


@dataclass(frozen=True)
class ReleaseOutcome:
    """The outcome of a release over all its pairs."""

    outcome: Outcome
    level: float
    """Largest chance that the release fails although every pair shows what it asserts."""
    pairs: tuple[CorrectedPair, ...]
    """In the order given."""

    def __repr__(self) -> str:
        return short_repr(self, self.words)

    @property
    def failing(self) -> tuple[CorrectedPair, ...]:
        """Return the pairs that fail the release."""
        return tuple(each for each in self.pairs if each.fails_release)

    @property
    def undecided(self) -> tuple[CorrectedPair, ...]:
        """Return the pairs that neither hold nor fail the release."""
        return tuple(each for each in self.pairs if each.pair.outcome != "holds" and not each.fails_release)

    @property
    def words(self) -> str:
        """Return the outcome in words, with the pairs behind it."""
        of = f"of {format_count(len(self.pairs), 'pair')}"
        if self.outcome == "holds":
            return "holds: the only pair does" if len(self.pairs) == 1 else f"holds: all {len(self.pairs)} pairs do"
        decisive = self.failing or self.undecided
        named = "; ".join(f"{each.pair.name} ({each.words})" for each in decisive)
        return f"{self.outcome}: {len(decisive)} {of}: {named}"


@validate_arguments
def judge_release(pairs: Sequence[PairOutcome], *, level: float = RELEASE_LEVEL) -> ReleaseOutcome:
    """Judge a release from the outcomes of its pairs, by the rule of this module.

    The outcome does not depend on the pairs' order. A pair that holds never fails the release, whatever its p.

    Args:
        pairs: every pair of the release on every question set, one at least.
        level: largest chance that a release of several pairs fails although every pair shows what it asserts, between
            0 and 1.

    Raises:
        RLCircuitsError: there is no pair, two have one name, or the level is not between 0 and 1.
    """
    if not pairs:
        raise RLCircuitsError("judge_release: pairs is empty; a release has one pair at least")
    names = [pair.name for pair in pairs]
    for name in names:
        if names.count(name) > 1:
            raise RLCircuitsError(
                f"judge_release: two pairs are named {truncated_repr(name)}; name the question set too if one pair is "
                f"judged on several"
            )
    if not 0 < level < 1:
        raise RLCircuitsError(f"judge_release: level is {level}; a number between 0 and 1 is wanted")
    alone = len(pairs) == 1
    judged = tuple(
        CorrectedPair(pair, p, fails_release=pair.outcome == "does not hold" and (alone or p < level))
        for pair, p in zip(pairs, corrected_by_holm([pair.p_against for pair in pairs]), strict=True)
    )
    outcome: Outcome = "inconclusive"
    if any(each.fails_release for each in judged):
        outcome = "does not hold"
    elif all(pair.outcome == "holds" for pair in pairs):
        outcome = "holds"
    return ReleaseOutcome(outcome, level, judged)


@validate_arguments
def combine_evidence(p_values: Mapping[str, float]) -> float:
    """Return one p-value for evidence against a pair by any of several measures: Holm's smallest corrected p.

    It is the smallest p times the number of measures, at most 1, and valid however the measures depend on one another.

    Args:
        p_values: by measure, p of the evidence that the pair does not show what it asserts of that measure. Empty if
            nothing is asserted, which gives 1.

    Raises:
        RLCircuitsError: a p-value is not from 0 to 1.
    """
    for measure, p in p_values.items():
        _check_p(f"combine_evidence: p of {measure}", p)
    return min(1.0, len(p_values) * min(p_values.values())) if p_values else 1.0


def corrected_by_holm(p_values: Sequence[float]) -> list[float]:
    """Return each p-value corrected by Holm's method over all of them, one at least."""
    if len(p_values) == 1:
        return list(p_values)
    from statsmodels.stats.multitest import multipletests  # takes seconds to import

    corrected: list[float] = multipletests(p_values, method="holm")[1].tolist()
    return corrected


def _check_p(where: str, p: float) -> None:
    if not 0 <= p <= 1:  # NaN is neither
        raise RLCircuitsError(f"{where} is {p}; a number from 0 to 1 is wanted")
