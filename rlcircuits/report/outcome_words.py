"""Say the outcomes of verdicts and findings in the words that tables, plots and pages show."""

from __future__ import annotations

from rlcircuits.comparison.profiles import NOT_ONLINE_RL, ONLINE_RL, Profile
from rlcircuits.comparison.verdict import Finding, Verdict


def finding_words(verdict: Verdict, finding: Finding) -> str:
    """Return a finding in words: ``up as expected``, ``no clear change, expected up (inconclusive)``.

    A direction that is as expected would read well alone. Where accuracy speaks against the pair, its row says so:
    ``up as expected, but accuracy fell``.
    """
    if finding.outcome == "inconclusive":
        return f"{finding.words} (inconclusive)"
    if finding.outcome == "holds" and finding.expected is not None:
        return f"{finding.words}{_objection(verdict)}"
    return finding.words


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict in words, with what it shows: ``holds: shows the study's pattern``."""
    if not verdict.holds:
        named = verdict.failed or verdict.inconclusive
        words = dict.fromkeys(_named(verdict, measure) for measure in named)
        return f"{verdict.outcome}: {', '.join(words)}"
    shown = shown_by(verdict.profile)
    asserted = "accuracy and circuits" if verdict.circuits else "accuracy only"
    return f"holds (asserts {asserted})" if shown is None else f"holds: {shown}"


def shown_by(profile: Profile) -> str | None:
    """Return what the metrics of a pair show for which this profile holds; None if it asserts nothing of them."""
    if profile.not_online_rl:
        return "does not show online RL's pattern"
    if dict(profile.expected) == dict(ONLINE_RL):
        return "shows the study's pattern"
    if profile.metrics:
        return "moved as expected" if profile.expected else "the same within the bounds"
    return None


def _objection(verdict: Verdict) -> str:
    if verdict.accuracy.outcome == "does not hold":
        return f", but accuracy {verdict.accuracy.words}"
    failed = [claim.measure for claim in verdict.claims if claim.outcome == "does not hold"]
    return f", but below {failed[0]}" if failed else ""


def _named(verdict: Verdict, measure: str) -> str:
    of_metrics = measure in verdict.findings or measure == NOT_ONLINE_RL
    if of_metrics and all(finding.words == "not measured" for finding in verdict.findings.values()):
        return "the metrics were not measured"
    return verdict.all_findings[measure].words if measure == NOT_ONLINE_RL else measure
