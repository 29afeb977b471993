"""Say in three lines what a release is judged as, why, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.circuit_checks import CIRCUIT_FAITHFULNESS, CIRCUIT_OVERLAP
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.evidence import judge_comparisons
from rlcircuits.comparison.multiplicity import CorrectedPair, ReleaseOutcome
from rlcircuits.comparison.outcome import Outcome
from rlcircuits.comparison.profiles import ACCURACY, GATE_METRICS, NOT_ONLINE_RL
from rlcircuits.comparison.significance import p_in_words
from rlcircuits.comparison.verdict import Finding, Verdict, judge
from rlcircuits.report.outcome_words import shown_by

_CIRCUITS = (CIRCUIT_OVERLAP, CIRCUIT_FAITHFULNESS)

_MOST_QUESTIONS, _MOST_TIMES = 20_000, 20
"""Questions beyond which, if they are so many times those asked too, a number is no advice: no common set has as many,
and it extrapolates from this run's effect too far."""

_FEW = 3
"""Most reasons that are given; the table has them all."""


@dataclass(frozen=True)
class Headline:
    """What a release is judged as, why, and what to do next."""

    outcome: Outcome | None
    """None if a pair could not be measured."""
    why: str
    next_step: str

    def __repr__(self) -> str:
        return short_repr(self, self.line)

    @property
    def lines(self) -> tuple[str, str, str]:
        """Return the three lines that stand above a table."""
        return f"outcome: {self.outcome or 'no verdict'}", f"why:     {self.why}", f"next:    {self.next_step}"

    @property
    def line(self) -> str:
        """Return the one line that stands below a table."""
        return f"{self.outcome or 'no verdict'}: {self.why}; {self.next_step}"


@dataclass(frozen=True)
class _Reason:
    """A measure that decides the outcome."""

    comparison: Comparison
    finding: Finding
    pair: CorrectedPair
    known: bool
    """Whether the pairs file says that it does not hold."""


def make_headline(
    comparisons: Sequence[Comparison],
    unmeasured: Sequence[str] = (),
    known: Mapping[str, Collection[str]] | None = None,
    unfinished: Sequence[str] = (),
) -> Headline:
    """Judge a release over all its pairs, and say the outcome, why, and what to do next.

    Args:
        comparisons: the pairs that were measured, one at least, each on one question set.
        unmeasured: names of the pairs that could not be measured; the release then has no outcome.
        known: by pair, the measures that the pairs file says do not hold; the outcome is the same with them.
        unfinished: names of the pairs that a stopped run left half done; the release then has no outcome either.

    Raises:
        RLCircuitsError: a comparison names an unknown profile.
    """
    release = judge_comparisons(comparisons)
    verdicts = [judge(comparison) for comparison in comparisons]
    if release.outcome == "holds":
        found = Headline("holds", _why_it_holds(comparisons, verdicts), _ALL_WELL)
    else:
        reasons = _reasons(release, comparisons, verdicts, known or {})
        several = len(comparisons) + len(unmeasured) + len(unfinished) > 1
        why = _some([_why(reason, several) for reason in reasons])
        found = Headline(release.outcome, why, _next_step(release.outcome, reasons, several))
    if not unmeasured and not unfinished:
        return found
    lost = [f"{_some(unmeasured)} could not be measured"] if unmeasured else []
    lost += [f"{_some(unfinished)} {'was' if len(unfinished) == 1 else 'were'} not finished"] if unfinished else []
    why = f"{'; '.join(lost)}; what was measured {_OF_THE_REST[release.outcome]}: {found.why}"
    next_step = "mend what the errors name, and run the same command again"
    return Headline(None, why, next_step if unmeasured else _GO_ON)


_OF_THE_REST: Mapping[Outcome, str] = {
    "holds": "holds",
    "does not hold": "does not hold",
    "inconclusive": "is inconclusive",
}

_GO_ON = "give the command that measured it again, which goes on where it stopped"

_ALL_WELL = "nothing here speaks against the release; other questions and risks are yours to evaluate"


def _why_it_holds(comparisons: Sequence[Comparison], verdicts: Sequence[Verdict]) -> str:
    shown = [shown_by(verdict.profile) for verdict in verdicts]
    if len(comparisons) == 1:
        (comparison,), (verdict,) = comparisons, verdicts
        effects = [(metric, comparison.effects[metric]) for metric in GATE_METRICS if metric in comparison.effects]
        moved = ", ".join(f"{metric} {_percent(effect.change)}" for metric, effect in effects)
        accuracy = f"accuracy {comparison.accuracy.before:.3f} → {comparison.accuracy.after:.3f}"
        if shown[0] is None:
            return f"{accuracy} ({verdict.accuracy.words}); the metrics are reported only ({moved})"
        beyond = " beyond supervised training" if comparison.supervised and verdict.profile.expected else ""
        return f"{shown[0]}{beyond} ({moved}), {accuracy}"
    kinds = dict.fromkeys(each or "asserts accuracy only" for each in shown)
    counted = [f"{shown.count(None if each.startswith('asserts') else each)} × {each}" for each in kinds]
    return f"all {len(comparisons)} pairs hold ({'; '.join(counted)})"


def _reasons(
    release: ReleaseOutcome,
    comparisons: Sequence[Comparison],
    verdicts: Sequence[Verdict],
    known: Mapping[str, Collection[str]],
) -> list[_Reason]:
    """Return the measures that decide: those of the failing pairs, or of the undecided ones; accuracy first."""
    decisive = release.failing or release.undecided
    found = []
    for pair, comparison, verdict in zip(release.pairs, comparisons, verdicts, strict=True):
        if pair not in decisive:
            continue
        measures = verdict.failed or verdict.inconclusive
        if not comparison.is_measured:  # for one reason, whatever the metric
            first = next((measure for measure in measures if not measure.endswith(ACCURACY)), None)
            measures = tuple(measure for measure in measures if measure.endswith(ACCURACY) or measure == first)
        for measure in measures:
            declared = measure in known.get(comparison.name, ())
            found.append(_Reason(comparison, verdict.all_findings[measure], pair, declared))
    return sorted(found, key=lambda reason: (reason.known, not _is_accuracy(reason.finding)))


def _is_accuracy(finding: Finding) -> bool:
    return finding.measure.endswith(ACCURACY)


def _why(reason: _Reason, several: bool) -> str:
    comparison, finding, pair = reason.comparison, reason.finding, reason.pair
    of = f" of {comparison.name}" if several else ""
    if not comparison.is_measured and not _is_accuracy(finding):
        said = f"{f'{comparison.name}: ' if several else ''}{comparison.note or 'the metrics were not measured'}"
    elif finding.measure == NOT_ONLINE_RL:
        said = f"{comparison.name if several else 'the pair'} {finding.words}"
    elif finding.measure == ACCURACY:
        said = _accuracy(comparison, finding, of)
    elif _is_accuracy(finding):
        said = _claim(comparison, finding, of)
    elif finding.measure in _CIRCUITS:
        said = _circuits(comparison, finding, of)
    else:
        said = f"{finding.measure}{of}: {finding.words} ({_percent(comparison.effects[finding.measure].change)})"
    if pair.pair.outcome == "does not hold" and not pair.fails_release:
        said += f", which is not rare among so many tests (corrected p = {p_in_words(pair.p_corrected)})"
    return f"{said} (declared in the pairs file)" if reason.known else said


def _accuracy(comparison: Comparison, finding: Finding, of: str) -> str:
    effect = comparison.accuracy
    change = effect.after - effect.before
    interval = "" if effect.interval is None else f" {_points(effect.interval)}"
    both = f"{effect.before:.3f} → {effect.after:.3f}"
    if finding.words == "fell":
        return f"accuracy{of} fell by {-100 * change:.1f} points{interval}, {both}"
    return f"accuracy{of}: {finding.words}, {100 * change:+.1f} points{interval}, {both}"


def _claim(comparison: Comparison, finding: Finding, of: str) -> str:
    (claim,) = (claim for claim in comparison.claims if claim.measure == finding.measure)
    wanted = "the claimed" if claim.reference is None else f"{claim.reference}'s"
    below = "is below" if finding.outcome == "does not hold" else "may be below"
    return (
        f"accuracy{of} {below} {wanted} {claim.wanted:.3f} by more than {100 * claim.margin:g} points: "
        f"{claim.found:.3f}, {100 * (claim.found - claim.wanted):+.1f} points {_points(claim.interval)}"
    )


def _circuits(comparison: Comparison, finding: Finding, of: str) -> str:
    assert comparison.circuits is not None, "it has a finding"
    (asserted,) = (each for each in comparison.circuits.assertions if each.measure == finding.measure)
    if finding.words == "not measured":
        return f"{finding.measure}{of}: not measured"
    low, high = asserted.interval
    return f"{finding.measure}{of}: {finding.words} {asserted.least:.2f}, {asserted.found:.2f} [{low:.2f}, {high:.2f}]"


def _next_step(outcome: Outcome, reasons: Sequence[_Reason], several: bool) -> str:
    if all(reason.known for reason in reasons):
        return "nothing new: the pairs file declares it under does_not_hold"
    first = next(reason for reason in reasons if not reason.known)
    if outcome == "does not hold":
        return _after_a_failure(first)
    return _to_settle([reason for reason in reasons if not reason.known], several)


def _after_a_failure(reason: _Reason) -> str:
    comparison, finding = reason.comparison, reason.finding
    if finding.expected == "same" or finding.words.startswith("rose"):
        return "do not release it as the same model; look at what moved and which weights changed"
    if _is_accuracy(finding) and finding.words != "did not rise":
        return f"do not release; look at the questions that {comparison.name}'s after got wrong and before got right"
    if finding.measure in _CIRCUITS:
        return "look at which edges changed: rlcircuits circuits lists them"
    if finding.measure == NOT_ONLINE_RL:
        return f"find out how {comparison.after} was trained: it is declared as {comparison.algorithm}"
    return (
        f"do not release it as {comparison.algorithm}; look at what moved, which weights changed, and whether "
        f"{comparison.after} is the checkpoint that is meant"
    )


def _to_settle(reasons: Sequence[_Reason], several: bool) -> str:
    """Return which number of questions would settle all measures for which one is known.

    No number of answers is named: more answers do not reduce the spread between questions.
    """
    odd = [reason for reason in reasons if reason.finding.outcome == "does not hold"]
    if odd:
        return f"measure {odd[0].comparison.name} again on other questions"
    unmeasured = [reason.comparison for reason in reasons if not reason.comparison.is_measured]
    if unmeasured:
        return _to_measure(unmeasured[0])
    known = [reason for reason in reasons if reason.finding.settled_by is not None]
    if not known and any(reason.finding.measure in _CIRCUITS for reason in reasons):
        return "ask more questions (question_count), which narrows the circuits' intervals; how many is not known"
    if not known:
        return "no number of questions would settle it; read the table, and decide"
    asked = max(_ratio(reason) * reason.comparison.accuracy.asked for reason in known)
    most = max(reason.comparison.accuracy.asked for reason in known)
    asked = max(asked, most)
    if asked > max(_MOST_QUESTIONS, _MOST_TIMES * most):
        return (
            f"this run cannot settle it: by its numbers it would take some {_one_digit(asked / most)} times as many "
            f"questions; a wider minimum, bound or margin would, if a smaller effect is of no consequence to you, or "
            f"questions on which the two models differ more"
        )
    setting = f"question_count = {_two_digits(asked)}"
    open_ones = [each for each in reasons if each.finding.settled_by is None and each.finding.measure not in _CIRCUITS]
    rest = [f"{each.finding.measure}{f' of {each.comparison.name}' if several else ''}" for each in open_ones]
    unsettled = f"; no number would settle {_some(rest)}" if rest else ""
    if len(known) > 1:
        return f"more questions would settle {'them' if not rest else 'the others'}: {setting}{unsettled}"
    (only,) = known
    kind = "asked" if _is_accuracy(only.finding) else "compared"
    assert only.finding.settled_by is not None
    return f"about {_two_digits(only.finding.settled_by):,} {kind} questions would settle it: {setting}{unsettled}"


def _ratio(reason: _Reason) -> float:
    """Return how many times as many questions would settle the measure."""
    finding, comparison = reason.finding, reason.comparison
    assert finding.settled_by is not None
    if finding.measure == ACCURACY:
        return finding.settled_by / comparison.accuracy.asked
    if _is_accuracy(finding):
        (asked,) = (claim.asked for claim in comparison.claims if claim.measure == finding.measure)
        return finding.settled_by / asked
    metric = "intensity" if finding.measure == NOT_ONLINE_RL else finding.measure
    return finding.settled_by / comparison.effects[metric].questions


def _some(texts: Sequence[str]) -> str:
    more = [f"{len(texts) - _FEW} more (see the table)"] if len(texts) > _FEW else []
    return "; ".join([*texts[:_FEW], *more])


def _to_measure(comparison: Comparison) -> str:
    """Return what to do about a pair of which too few questions could be compared."""
    accuracy = comparison.accuracy
    wrong = [side for side, share in (("before", accuracy.before), ("after", accuracy.after)) if share == 0]
    if wrong:
        return (
            f"read the answers of {comparison.name}'s {' and '.join(wrong)}, none of which is right; see that question "
            f"set, prompt and chat template are what the models were made for"
        )
    return "ask more questions (question_count), after a look at the stage that drops most of them and at the answers"


def _two_digits(number: float) -> int:
    """Round up to two digits, since the number is an estimate."""
    unit: int = 10 ** max(len(str(math.ceil(number))) - 2, 0)
    return math.ceil(number / unit) * unit


def _one_digit(number: float) -> str:
    """Round to one digit, since the number is a rough estimate."""
    unit: int = 10 ** (len(str(math.ceil(number))) - 1)
    return f"{round(number / unit) * unit:,}"


def _points(interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    return f"[{low:+.1f}, {high:+.1f}]"


def _percent(share: float) -> str:
    return "undefined" if math.isnan(share) else f"{share:+.0%}".replace("%", " %")
