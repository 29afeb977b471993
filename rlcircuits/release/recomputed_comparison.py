"""Make a comparison again from the files of a pair's folder, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison, ControlDraw, Unfinished
from rlcircuits.comparison.effects import compare_accuracy
from rlcircuits.comparison.from_answers import compare_answers
from rlcircuits.comparison.from_scores import Control, compare
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.repeated_pairing import repeat_pairing
from rlcircuits.release.store_evidence import SideEvidence, StoreEvidence

_ASKED_FOR = {"name", "algorithm", "profile", "engine", "score_on", "alpha", "balance", "trust_remote_code"}
"""Fields of a comparison that say what was asked for. The other fields are recomputed from them."""

PAIRING, METRICS = "pairing", "metrics"


class RecomputedComparison:
    """A comparison made again, as far as the files allow.

    Args:
        stored: what ``comparison.json`` says.
        answers: all answers of both sides.
        scores: the scores of both sides.
        store: the run's store, for the noise draws.
        seed: seed of the sample of questions, if it is known.
    """

    def __init__(
        self,
        stored: Comparison,
        answers: Mapping[Side, Answers],
        scores: Mapping[Side, EdgeScores],
        store: StoreEvidence,
        seed: int | None,
    ) -> None:
        self.stored, self.answers, self.scores, self.store = stored, answers, scores, store
        self.problems: dict[str, str] = {}
        """By part of the comparison, why the files contradict one another, so that it cannot be recomputed."""
        self.evidence: dict[Side, SideEvidence] = {side: SideEvidence(None) for side in SIDES}
        """What the store says about each side's scores."""
        self.taken: set[str] = set()
        """Fields of the file, such as ``comparison.alpha``, whose values were taken from it."""
        self.comparison = self._recompute(seed)

    def _recompute(self, seed: int | None) -> Comparison:
        before, after = (self.answers[side] for side in SIDES)
        made: dict[str, Any] = {}
        try:
            made |= {"accuracy": compare_accuracy(before, after), "unfinished": Unfinished.of(before, after)}
            pairing = repeat_pairing(self.stored, before, after, seed)
        except RLCircuitsError as error:
            return self._partly(made, PAIRING, error)
        made |= _fields_of(pairing)
        asked_for: dict[str, Any] = {
            name: getattr(self.stored, name) for name in ("name", "algorithm", "profile", "engine", "trust_remote_code")
        }
        if not self.stored.is_measured:
            self._take(*_ASKED_FOR, "granularity")
            granularity = self.stored.granularity
            return self._completed(compare_answers(pairing, before, after, granularity=granularity, **asked_for))
        for side in SIDES:
            sequences = pairing.before if side == "before" else pairing.after
            self.evidence[side] = self.store.of_side(side, sequences, self.scores[side])
        controls = self._controls(pairing)
        try:
            comparison = compare(
                self.scores["before"],
                self.scores["after"],
                pairing,
                before,
                after,
                controls=controls,
                **asked_for,
            )
        except RLCircuitsError as error:
            return self._partly(made, METRICS, error)
        self._take(*_ASKED_FOR)
        return self._completed(comparison)

    def _partly(self, made: Mapping[str, Any], part: str, error: RLCircuitsError) -> Comparison:
        """Return the stored comparison with the fields that could be recomputed before a part failed."""
        self.problems[part] = str(error)
        self._take(*(field.name for field in fields(Comparison) if field.name not in made))
        return replace(self.stored, **made)

    def _take(self, *names: str) -> None:
        self.taken |= {f"comparison.{name}" for name in names}

    def _controls(self, pairing: Pairing) -> list[Control]:
        """Return the noise draws that the store has. The numbers of others are taken from the file."""
        fingerprints = {side: evidence.fingerprint for side, evidence in self.evidence.items()}
        granularity = self.scores["before"].graph.granularity
        found = []
        for place, draw in enumerate(self.stored.controls):
            control = self.store.control(draw.draw, pairing, self.answers, fingerprints, granularity)
            if control is None or (control.scores is None and draw.shifts):
                # The note speaks of draws that were not scored.
                self._take(f"controls.{place}", "note")
            else:
                found.append(control)
        return found

    def _completed(self, made: Comparison) -> Comparison:
        """Return the comparison with the draws and fields of the file that could not be recomputed."""
        draws: dict[int, ControlDraw] = {control.draw: control for control in made.controls}
        changes: dict[str, Any] = {
            "controls": tuple(draws.get(control.draw, control) for control in self.stored.controls)
        }
        if "comparison.note" in self.taken:
            changes["note"] = self.stored.note
        for field in fields(Comparison):
            # What is left at its default was measured by something that `compare` does not do.
            default = field.default if field.default_factory is MISSING else field.default_factory()
            stored = getattr(self.stored, field.name)
            if default is not MISSING and getattr(made, field.name) == default != stored:
                changes[field.name] = stored
                self._take(field.name)
        return replace(made, **changes)


def _fields_of(pairing: Pairing) -> dict[str, Any]:
    """Return the fields of a comparison that a pairing gives."""
    return {
        "question_ids": pairing.question_ids,
        "t_cut": pairing.t_cut,
        "ref": pairing.ref,
        "funnel": dict(pairing.funnel),
        "dropped": dict(pairing.dropped_ids),
    }
