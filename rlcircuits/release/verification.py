"""Verify stored results: recompute a pair's numbers from its files, and compare them with ``comparison.json``.

A pair's folder holds both models' answers, both models' scores, and ``comparison.json``. From these follow, in order:

1. the pairing, from the answers' grades and lengths;
2. accuracy, from the grades, and the release's claims about it, from the reference's answers in the run's store;
3. the metrics, their effects and tests, from the scores and the pairing;
4. the noise control, from the answers and scores in the run's store;
5. the effects beyond the supervised control's, from its folder ``control`` within the pair's, which is verified too;
6. what differs between the checkpoints, from their files, if the caller asks for it;
7. the verdict, from those numbers by today's rule.

The recomputed comparison is compared with the stored one field by field (:mod:`rlcircuits.release.differences`), so
that a field that a later version adds is compared too. Two kinds of fields are taken from the file, and named:

- what was **asked for**, such as alpha: its effect on the numbers is checked, not that it was this;
- what was measured and is **unchecked**, since the store lacks it. If the verdict depends on it
  (:mod:`rlcircuits.release.unchecked_evidence`), the verdict is not verified.

No model is loaded. The store also proves that the scores are of these answers and of which weights; see
:mod:`rlcircuits.release.store_evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import COMPARISON_FILE
from rlcircuits.common.input_files import read_text
from rlcircuits.common.json_files import parse_json_object
from rlcircuits.common.reprs import elided_repr, format_count, short_repr
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.outcome import OUTCOMES, Outcome
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.comparison.verdict import judge
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.compared_parts import Agreement, Check, compare_parts
from rlcircuits.release.pair_folders import find_pair_folders, pair_name, path_exists, read_result, store_of
from rlcircuits.release.recomputed_comparison import RecomputedComparison
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.store_evidence import StoreEvidence
from rlcircuits.release.supervised import FOLDER as CONTROL
from rlcircuits.release.unchecked_evidence import possible_outcomes
from rlcircuits.release.verified_inputs import check_checkpoints, check_grades, check_texts, read_checkpoints

__all__ = ["Agreement", "Check", "Verification", "verify_pair", "verify_results"]


@dataclass(frozen=True)
class Verification:
    """What of one pair's stored results agrees with what was recomputed."""

    name: str
    """The pair's name."""
    folder: Path
    checks: tuple[Check, ...]
    taken: tuple[str, ...]
    """Fields of ``comparison.json`` that say what was asked for. They were taken from it, since nothing else does."""
    unchecked: tuple[str, ...]
    """Fields of ``comparison.json`` that were measured and could not be recomputed."""
    outcome: Outcome
    """The verdict on the recomputed numbers, with those of the file where they are unchecked."""
    possible: tuple[Outcome, ...]
    """Every outcome that the verdict may have, whatever the unchecked numbers are."""

    def __repr__(self) -> str:
        differing = [check.part for check in self.checks if check.agreement == "differs"]
        words = f"differs in {', '.join(differing)}" if differing else "agrees"
        return short_repr(self, elided_repr(self.name), format_count(len(self.checks), "check"), words)

    @property
    def agrees(self) -> bool:
        """Return whether nothing differs by more than rounding."""
        return all(check.agreement != "differs" for check in self.checks)

    @property
    def depends_on_unchecked(self) -> bool:
        """Return whether the verdict's outcome depends on numbers that could not be recomputed."""
        return len(self.possible) > 1

    @property
    def verified(self) -> bool:
        """Return whether nothing differs, and everything that the verdict depends on was recomputed."""
        return self.agrees and not any(check.part == "verdict" for check in self.unverified)

    @property
    def unverified(self) -> tuple[Check, ...]:
        """Return the checks of parts that could not be recomputed, or not all of them."""
        return tuple(check for check in self.checks if check.agreement == "not checked")

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
        models: also compare the checkpoints' fingerprints with those recorded in the run's store, their weights and
            files with what the comparison says of them, and decode the answers' token ids again. Reads the
            checkpoints' files, and runs no model.
        regrade: also grade the recorded texts again. Only sets that need no file have a grader that is known.
        seed: seed of the sample of K questions, which ``comparison.json`` does not hold; by default the usual one, or
            whichever below 1000 gives the stored sample.

    Returns:
        One verification for each pair and each supervised control, sorted by the folders' names.

    Raises:
        RLCircuitsError: the folder holds no pair, or a file of a pair or of the store is missing, unreadable, truncated
            or malformed; the message names the file.
    """
    how = {"models": models, "regrade": regrade, "seed": seed}
    return tuple(verify_pair(path, **how) for path in find_pair_folders(folder))  # type: ignore[arg-type]


@validate_arguments
def verify_pair(
    folder: str | Path, *, models: bool = False, regrade: bool = False, seed: int | None = None
) -> Verification:
    """Recompute the numbers of one pair's folder; see :func:`verify_results`."""
    folder = Path(folder)
    stored = _load_comparison(folder)
    supervised = None
    if stored.supervised is not None and path_exists(folder / CONTROL, "a supervised control"):
        supervised = _recompute(folder / CONTROL, _load_comparison(folder / CONTROL), seed).comparison
    recomputed = _recompute(folder, stored, seed, supervised, models)
    document = parse_json_object(read_text(folder / COMPARISON_FILE, "a comparison"))
    checks, asked = compare_parts(document, recomputed)
    if stored.is_measured:
        checks.append(_check_scores(recomputed))
    if models and stored.is_measured:
        checks.append(_asked("checkpoints", *check_checkpoints(stored, recomputed.fingerprints)))
    if models:
        checks.append(_asked("texts", *check_texts(stored, recomputed.answers)))
    if regrade:
        checks.append(_asked("grades", *check_grades(stored, recomputed.answers)))
    outcome = judge(recomputed.comparison).outcome
    found = {outcome} if recomputed.problems else possible_outcomes(recomputed.comparison, recomputed.unchecked)
    possible = tuple(each for each in OUTCOMES if each in found)
    checks = [_with_outcome(check, outcome, possible) for check in checks]
    return Verification(
        pair_name(folder, stored.name),
        folder,
        tuple(checks),
        asked,
        tuple(sorted(recomputed.unchecked)),
        outcome,
        possible,
    )


def _load_comparison(folder: Path) -> Comparison:
    file = folder / COMPARISON_FILE
    if not path_exists(file, "a comparison"):
        raise RLCircuitsError(
            f"{folder}: holds no {COMPARISON_FILE}, so that there is nothing to verify: the pair was not finished, or "
            f"the file was removed; measure the pair again, or copy the file from where the others came from"
        )
    return read_result(load_comparison, file, "a comparison")


def _recompute(
    folder: Path, stored: Comparison, seed: int | None, supervised: Comparison | None = None, models: bool = False
) -> RecomputedComparison:
    """Make the comparison in a pair's folder again."""
    answers: dict[Side, Answers] = {
        side: read_result(Answers.load, answers_file(folder, side), "answers") for side in SIDES
    }
    scored = SIDES if stored.is_measured else ()
    scores: dict[Side, EdgeScores] = {
        side: read_result(EdgeScores.load, scores_file(folder, side), "edge scores") for side in scored
    }
    store = StoreEvidence(store_of(folder), gold=stored.score_on == "gold")
    reads = partial(read_checkpoints, stored) if models else None
    return RecomputedComparison(stored, answers, scores, store, seed, supervised, reads)


def _check_scores(recomputed: RecomputedComparison) -> Check:
    """Return whether both sides' scores are in the store, of the token ids that the pairing selects."""
    differences = tuple(each.difference for each in recomputed.evidence.values() if each.difference)
    if differences:
        return Check("scores", "differs", f"{differences[0].words.replace('recomputed', 'store')}", differences)
    unknown: list[Side] = [side for side, each in recomputed.evidence.items() if each.fingerprint is None]
    if recomputed.stored.score_on == "gold":
        has = "the store has the same" if not unknown else f"the store has no such scores of {' and '.join(unknown)}"
        why = f"gold answers were scored, whose token ids no file holds; {has}"
        return Check("scores", "not checked", f"{why}, and nothing says which answers they are of")
    if unknown:
        why = f"the store has no run of {' and '.join(unknown)} on the answers compared"
        return Check("scores", "not checked", f"{why}, so that nothing says which answers the scores are of")
    return Check("scores", "agrees", "the store has the same, of the answers compared")


def _with_outcome(check: Check, outcome: Outcome, possible: tuple[Outcome, ...]) -> Check:
    """Return the check of the verdict with its outcome, and as not checked if that depends on unchecked numbers."""
    if check.part != "verdict" or check.agreement in ("differs", "not checked"):
        return check
    if len(possible) == 1:
        return Check(check.part, check.agreement, f"{outcome}; {check.words}", check.differences)
    words = f"{outcome} by the file's numbers; what is not checked could make it any of: {', '.join(possible)}"
    return Check(check.part, "not checked", words, check.differences)


def _asked(part: str, agreement: Agreement, words: str) -> Check:
    return Check(part, agreement, words, asked_for=True)
