"""Verify stored results: recompute a pair's numbers from its files, and compare them with ``comparison.json``.

A pair's folder holds both models' answers, both models' scores, and ``comparison.json``. From these follow, in order:

1. the pairing, from the answers' grades and lengths;
2. accuracy, from the grades;
3. the metrics, their effects and tests, from the scores and the pairing;
4. the noise control, from the answers and scores in the run's store, if that is there;
5. the verdict, from those numbers by today's rule.

The recomputed comparison is compared with the stored one field by field (:mod:`rlcircuits.release.differences`), so
that a field that a later version adds is compared too. What cannot be recomputed is taken from the file, and named:
the settings that were chosen (their effect on the numbers is checked, not that they were these), and noise draws that
the store lacks.

No model is loaded. The store also proves that the scores are of these answers and of which weights; see
:mod:`rlcircuits.release.store_evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.files import COMPARISON_FILE
from rlcircuits.common.input_files import read_text
from rlcircuits.common.json_files import parse_json_object
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.profiles import current_name
from rlcircuits.comparison.storage import find_comparisons, load_comparison, to_json
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.differences import Difference, compare_documents
from rlcircuits.release.pair import STORE
from rlcircuits.release.recomputed_comparison import PAIRING, RecomputedComparison
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.store_evidence import StoreEvidence
from rlcircuits.release.verified_inputs import check_checkpoints, check_grades, check_texts

Agreement = Literal["agrees", "rounding", "differs", "not checked"]
"""What came of a check: all values are the same; they differ by rounding; they differ; or there was nothing to check
them against."""

_PARTS = {
    "comparison.accuracy": "accuracy",
    "comparison.unfinished": "accuracy",
    "comparison.effects": "metrics",
    "comparison.by_reader_kind": "metrics",
    "comparison.by_layer_band": "metrics",
    "comparison.controls": "noise control",
    "verdict": "verdict",
}
"""The part of the report that a field belongs to; all others belong to `PAIRING`."""


@dataclass(frozen=True)
class Check:
    """One part of a pair's results, and whether it agrees with what it was recomputed from."""

    part: str
    """``pairing``, ``accuracy``, ``metrics``, ``noise control``, ``verdict``, ``scores``, ``checkpoints``, …"""
    agreement: Agreement
    words: str
    """What was compared, the first difference with both values, or why nothing could be compared."""
    differences: tuple[Difference, ...] = ()
    """Every value that differs."""
    asked_for: bool = False
    """Whether the caller asked for this check, so that it matters if it could not be made."""


@dataclass(frozen=True)
class Verification:
    """What of one pair's stored results agrees with what was recomputed."""

    name: str
    """The pair's name."""
    folder: Path
    checks: tuple[Check, ...]
    taken: tuple[str, ...]
    """Fields of ``comparison.json`` that were taken from it, since nothing else says them."""

    def __repr__(self) -> str:
        differing = [check.part for check in self.checks if check.agreement == "differs"]
        words = f"differs in {', '.join(differing)}" if differing else "agrees"
        return short_repr(self, elided_repr(self.name), format_count(len(self.checks), "check"), words)

    @property
    def agrees(self) -> bool:
        """Return whether nothing differs by more than rounding."""
        return all(check.agreement != "differs" for check in self.checks)

    @property
    def missing(self) -> tuple[Check, ...]:
        """Return the checks that were asked for and could not be made."""
        return tuple(check for check in self.checks if check.asked_for and check.agreement == "not checked")


@validate_arguments
def verify_results(
    folder: str | Path, *, models: bool = False, regrade: bool = False, seed: int | None = None
) -> tuple[Verification, ...]:
    """Recompute the numbers of every pair in a folder of results, and compare them with what is stored.

    Args:
        folder: the output folder of a run, or one pair's folder in it.
        models: also compare the checkpoints' fingerprints with those recorded in the run's store, and decode the
            answers' token ids again. Reads the checkpoints' files, and loads no weights.
        regrade: also grade the recorded texts again. Only sets that need no file have a grader that is known.
        seed: seed of the sample of K questions, which ``comparison.json`` does not hold; by default the usual one, or
            whichever below 1000 gives the stored sample.

    Returns:
        One verification for each pair, sorted by the folders' names.

    Raises:
        RLCircuitsError: the folder holds no comparison, or a file of a pair is missing, truncated or malformed; the
            message names the file.
    """
    how = {"models": models, "regrade": regrade, "seed": seed}
    return tuple(verify_pair(path.parent, **how) for path in find_comparisons(folder))  # type: ignore[arg-type]


@validate_arguments
def verify_pair(
    folder: str | Path, *, models: bool = False, regrade: bool = False, seed: int | None = None
) -> Verification:
    """Recompute the numbers of one pair's folder; see :func:`verify_results`."""
    folder = Path(folder)
    stored = load_comparison(folder)
    answers: dict[Side, Answers] = {side: Answers.load(answers_file(folder, side)) for side in SIDES}
    scored = SIDES if stored.is_measured else ()
    scores: dict[Side, EdgeScores] = {side: EdgeScores.load(scores_file(folder, side)) for side in scored}
    store = StoreEvidence(folder.resolve().parent / STORE)
    recomputed = RecomputedComparison(stored, answers, scores, store, seed)
    document = parse_json_object(read_text(folder / COMPARISON_FILE, "a comparison"))
    checks, taken = _compare(document, recomputed)
    if stored.is_measured:
        checks.append(_check_scores(recomputed))
    fingerprints = {side: evidence.fingerprint for side, evidence in recomputed.evidence.items()}
    if models:
        checks.append(_asked("checkpoints", *check_checkpoints(stored, fingerprints)))
        checks.append(_asked("texts", *check_texts(stored, answers)))
    if regrade:
        checks.append(_asked("grades", *check_grades(stored, answers)))
    return Verification(stored.name, folder, tuple(checks), taken)


def _compare(document: dict[str, Any], recomputed: RecomputedComparison) -> tuple[list[Check], tuple[str, ...]]:
    """Return a check for each part of the document, and the fields that were taken from it."""
    _rename_profiles(document)
    key = document.get("key")
    wanted = parse_json_object(to_json(recomputed.comparison, key if isinstance(key, str) else None))
    taken = {"key"} | recomputed.taken | _unrecorded(document)

    def is_left_out(field: str) -> bool:
        return any(field == name or field.startswith(f"{name}.") for name in taken)

    found: dict[str, dict[str, Difference | None]] = {part: {} for part in (PAIRING, *_PARTS.values())}
    for field, difference in compare_documents(document, wanted, is_left_out).items():
        found[_part_of(field)][field] = difference
    checks = [
        Check(part, "differs", recomputed.problems[part])
        if part in recomputed.problems
        else _summarised(part, compared, taken)
        for part, compared in found.items()
    ]
    return checks, tuple(sorted(taken))


def _summarised(part: str, compared: Mapping[str, Difference | None], taken: Iterable[str]) -> Check:
    differences = tuple(difference for difference in compared.values() if difference)
    lacking = sorted(field.removeprefix("comparison.") for field in taken if _part_of(field) == part != PAIRING)
    beside = f"; taken from the file: {', '.join(lacking)}" if lacking else ""
    if large := [difference for difference in differences if not difference.is_rounding]:
        more = f"; {len(large) - 1} more differ" if len(large) > 1 else ""
        return Check(part, "differs", f"{large[0].words}{more}{beside}", differences)
    if differences:
        most = max(difference.relative for difference in differences)
        words = f"{differences[0].words}; {len(differences)} of {len(compared)} values differ by {most:.1e} at most"
        return Check(part, "rounding", f"{words}{beside}", differences)
    if not compared:
        return Check(part, "not checked", beside.removeprefix("; "))
    return Check(part, "agrees", f"{format_count(len(compared), 'value')}{beside}")


def _check_scores(recomputed: RecomputedComparison) -> Check:
    """Return whether both sides' scores are in the store, of the token ids that the pairing selects."""
    differences = tuple(each.difference for each in recomputed.evidence.values() if each.difference)
    if differences:
        return Check("scores", "differs", f"{differences[0].words.replace('recomputed', 'store')}", differences)
    unknown = [side for side, each in recomputed.evidence.items() if each.fingerprint is None]
    if unknown:
        why = f"the store has no run of {' and '.join(unknown)} on the answers compared"
        if recomputed.stored.score_on == "gold":
            why = "gold answers were scored, whose token ids no file holds"
        return Check("scores", "not checked", f"{why}, so that nothing says which answers the scores are of")
    return Check("scores", "agrees", "the store has the same, of the answers compared")


def _asked(part: str, agreement: Agreement, words: str) -> Check:
    return Check(part, agreement, words, asked_for=True)


def _part_of(field: str) -> str:
    return next((part for name, part in _PARTS.items() if f"{field}.".startswith(f"{name}.")), PAIRING)


def _unrecorded(document: Mapping[str, Any]) -> set[str]:
    """Return the fields that an earlier version did not record."""
    found = document.get("comparison", {})
    optional = [
        field.name
        for field in fields(Comparison)
        if (field.default, field.default_factory) != (MISSING, MISSING) and field.name not in found
    ]
    return {f"comparison.{name}" for name in optional}


def _rename_profiles(document: dict[str, Any]) -> None:
    """Replace the names that profiles had in earlier versions."""
    for table in (document.get("comparison"), document.get("verdict")):
        if isinstance(table, dict) and isinstance(table.get("profile"), str):
            table["profile"] = current_name(table["profile"])
