"""Make a comparison again from the files of a pair's folder, without a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import product
from typing import Any

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.checkpoints.weight_changes import WeightChanges
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import (
    Comparison,
    ControlDraw,
    GroupControl,
    Requested,
    SupervisedControl,
    Unfinished,
)
from rlcircuits.comparison.effects import (
    AccuracyClaim,
    AccuracyEffect,
    compare_accuracy,
    compare_with_claim,
    compare_with_reference,
)
from rlcircuits.comparison.from_answers import compare_answers
from rlcircuits.comparison.from_scores import Control, NoisedGroup, compare, notes
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.comparison.supervised_control import beyond_supervised
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.how_scored import DEFAULT_SCORING, HowScored
from rlcircuits.models.tensor_groups import GROUPS
from rlcircuits.release.greedy import greedy_sampling
from rlcircuits.release.repeated_pairing import repeat_pairing
from rlcircuits.release.store_evidence import SideEvidence, StoreEvidence

_ASKED_FOR = ("name", "algorithm", "profile", "rules", "engine", "score_on", "alpha", "balance", "trust_remote_code")
"""Fields of a comparison that say what was asked for. The other fields are recomputed from them."""

_REQUESTED = "requested"
"""The field that says so too, in the versions that record it."""

_MADE = ("note", "controls", "unfinished", "claims", "group_controls", "weights", "differences", "supervised", "greedy")
"""Fields that may be empty, and are recomputed."""

_WHY_NOT = {"circuits": "only its checkpoints show it: rlcircuits circuits runs them"}
"""Why a field that a run measures is not made again here."""

PAIRING, METRICS, SUPERVISED = "pairing", "metrics", "supervised control"


@dataclass(frozen=True)
class CheckpointFacts:
    """What the checkpoints' files say, where they were read."""

    weights: WeightChanges
    differences: tuple[str, ...]


ReadCheckpoints = Callable[[Mapping[Side, str | None]], CheckpointFacts]


class RecomputedComparison:
    """A comparison made again, as far as the files allow.

    Args:
        stored: what ``comparison.json`` says.
        answers: all answers of both sides.
        scores: the scores of both sides.
        store: the run's store, for the noise controls and the reference's answers.
        seed: seed of the sample of questions, if it is known.
        supervised: the comparison with the supervised control, made again too; None if there is none.
        read_checkpoints: called with the fingerprints that the store records of both sides, returns what the
            checkpoints' files say; None not to read them.
    """

    def __init__(
        self,
        stored: Comparison,
        answers: Mapping[Side, Answers],
        scores: Mapping[Side, EdgeScores],
        store: StoreEvidence,
        seed: int | None,
        supervised: Comparison | None = None,
        read_checkpoints: ReadCheckpoints | None = None,
    ) -> None:
        self.stored, self.answers, self.scores, self.store = stored, answers, scores, store
        self.supervised, self.read_checkpoints = supervised, read_checkpoints
        self.problems: dict[str, str] = {}
        """By part of the comparison, why the files contradict one another, so that it cannot be recomputed."""
        self.evidence: dict[Side, SideEvidence] = {side: SideEvidence(None) for side in SIDES}
        """What the store says about each side's scores."""
        self.asked: set[str] = set()
        """Fields of the file, such as ``comparison.alpha``, that say what was asked for, which nothing else says."""
        self.unchecked: dict[str, str] = {}
        """Fields that were measured and could not be recomputed, such as ``comparison.controls.0``, each with why."""
        self.comparison = self._recompute(seed)

    def _recompute(self, seed: int | None) -> Comparison:
        before, after = (self.answers[side] for side in SIDES)
        made: dict[str, Any] = _fields_of_answers(before, after)
        references, greedy = self._references(after), self._greedy_answers()
        try:
            made |= {"accuracy": compare_accuracy(before, after), "unfinished": Unfinished.of(before, after)}
            made |= {"claims": self._claims(after, references), "greedy": self._greedy(greedy)}
            pairing = repeat_pairing(self.stored, before, after, seed)
        except RLCircuitsError as error:
            return self._partly(made, PAIRING, error)
        made |= _fields_of(pairing)
        if self.stored.requested is not None:
            self.asked.add(f"comparison.{_REQUESTED}")
        elif not self.stored.is_measured or len(pairing.question_ids) == list(pairing.funnel.values())[-2]:
            # No sample was drawn, which would show K.
            self.asked.add("comparison.note (the number of questions wanted)")
        if self.stored.requested is None:
            self.asked.add("comparison.controls (the number of noise draws wanted)")
        made |= {"note": notes(pairing, self.stored.controls), "granularity": self._granularity}
        for side, scores in self.scores.items():
            sequences = pairing.before if side == "before" else pairing.after
            self.evidence[side] = self.store.of_side(side, sequences, scores)
        weights, differences = self._checkpoint_facts()
        how: dict[str, Any] = {
            name: getattr(self.stored, name)
            for name in ("name", "algorithm", "profile", "rules", "engine", "trust_remote_code")
        }
        how |= {"claims": made["claims"], "greedy": made["greedy"], "weights": weights, "differences": differences}
        if not self.stored.is_measured:
            self.asked |= {f"comparison.{name}" for name in (*_ASKED_FOR, "granularity")}
            comparison = compare_answers(pairing, before, after, granularity=self._granularity, **how)
            comparison = replace(comparison, requested=self.stored.requested or comparison.requested)
            return replace(comparison, **self._measured_elsewhere(comparison))
        controls, groups = self._controls(pairing), self._groups(pairing, weights)
        try:
            comparison = compare(
                self.scores["before"],
                self.scores["after"],
                pairing,
                before,
                after,
                controls=[control for control in controls if isinstance(control, Control)],
                groups=[group for group in groups if isinstance(group, NoisedGroup)],
                **how,
            )
        except RLCircuitsError as error:
            return self._partly(made, METRICS, error)
        self.asked |= {f"comparison.{name}" for name in _ASKED_FOR}
        draws = {draw.draw: draw for draw in comparison.controls}
        shifts = {group.group: group for group in comparison.group_controls}
        comparison = replace(
            comparison,
            controls=tuple(each if isinstance(each, ControlDraw) else draws[each.draw] for each in controls),
            group_controls=tuple(each if isinstance(each, GroupControl) else shifts[each.group] for each in groups),
        )
        comparison = replace(
            comparison,
            note=notes(pairing, comparison.controls),
            supervised=self._beyond_supervised(comparison),
            # Not every draw may have been made again.
            requested=self.stored.requested or Requested(pairing.k, len(controls)),
            noise_not_needed=self.stored.noise_not_needed,  # checked when the file was read
        )
        return replace(comparison, **self._measured_elsewhere(comparison))

    def _partly(self, made: Mapping[str, Any], part: str, error: RLCircuitsError) -> Comparison:
        """Return the stored comparison with the fields that could be recomputed before a part failed."""
        self.problems[part] = str(error)
        names = [field.name for field in fields(Comparison) if field.name not in (*made, *_ASKED_FOR, _REQUESTED)]
        self.unchecked |= {f"comparison.{name}": f"it follows from {part}" for name in names}
        self.asked |= {f"comparison.{name}" for name in _ASKED_FOR}
        return replace(self.stored, **made)

    def _references(self, after: Answers) -> dict[str, tuple[Answers, ...]]:
        """Return the answers in the store of each checkpoint that the release refers to, by its name."""
        names = [claim.reference for claim in self.stored.claims if claim.reference is not None]
        return {name: self.store.answers_of(name, after) for name in names}

    def _claims(self, after: Answers, references: Mapping[str, tuple[Answers, ...]]) -> tuple[AccuracyClaim, ...]:
        """Return what the release states of after's accuracy, beside what was found."""
        margin = self.stored.judged_by.accuracy.margin
        claims = []
        for place, stored in enumerate(self.stored.claims):
            field = f"comparison.claims.{place}"
            if stored.reference is None:
                self.asked.add(f"{field}.wanted")
                claims.append(compare_with_claim(after, stored.wanted, margin))
                continue
            self.asked.add(f"{field}.reference")
            found = [
                replace(compare_with_reference(after, answers, margin), reference=stored.reference)
                for answers in references[stored.reference]
            ]
            if not found:
                self.unchecked[field] = f"the store has no answers of {stored.reference}"
            claims.append(next((claim for claim in found if claim == stored), found[0] if found else stored))
        return tuple(claims)

    def _greedy_answers(self) -> list[list[Answers]]:
        """Return each side's answers to the questions at temperature 0 in the store; nothing if none were asked for.

        Runs that differ in prompt or batches, or in the weights under one name, may each have left some.
        """
        if self.stored.greedy is None:
            return []
        found = []
        for answers in self.answers.values():
            if answers.sampling.temperature == 0:
                found.append([answers])
                continue
            greedy = replace(answers, sampling=greedy_sampling(answers.sampling))
            asked = _asked(answers)
            found.append([each for each in self.store.answers_of(answers.model, greedy) if _asked(each) == asked])
        return found

    def _greedy(self, answers: Sequence[Sequence[Answers]]) -> AccuracyEffect | None:
        """Return the accuracy at temperature 0; what the file says of it if the store lacks the answers."""
        if self.stored.greedy is None:
            return None
        found = [compare_accuracy(before, after) for before, after in product(*answers)]
        if not found:
            self.unchecked["comparison.greedy"] = "the store does not have both sides' answers at temperature 0"
            return self.stored.greedy
        return next((each for each in found if each == self.stored.greedy), found[0])

    def _controls(self, pairing: Pairing) -> list[Control | ControlDraw]:
        """Return the noise draws: their answers and scores in the store, or what the file says of them."""
        found: list[Control | ControlDraw] = []
        for place, stored in enumerate(self.stored.controls):
            # A run numbers its draws from 0.
            draw = replace(stored, draw=place)
            control = self.store.control(draw, pairing, self.answers, self.fingerprints, self._granularity, self._how)
            if control is None or (control.scores is None and stored.shifts):
                self.unchecked[f"comparison.controls.{place}"] = self._lacking(f"noise {place}")
                found.append(draw)
            else:
                found.append(control)
        return found

    def _groups(self, pairing: Pairing, weights: WeightChanges | None) -> list[NoisedGroup | GroupControl]:
        """Return the noise on each group of tensors: its scores in the store, or what the file says of it."""
        stored = {control.group: control for control in self.stored.group_controls}
        found: list[NoisedGroup | GroupControl] = []
        for place, group in enumerate(each for each in GROUPS if each in _noised_groups(stored, weights)):
            noised = self.store.group(group, pairing, self.answers, self.fingerprints, self._granularity, self._how)
            if noised is not None:
                found.append(noised)
            elif group in stored:
                self.unchecked[f"comparison.group_controls.{place}"] = self._lacking(f"noise on {group}")
                found.append(stored[group])
            else:
                found.append(GroupControl(group, {}))
        return found

    def _checkpoint_facts(self) -> tuple[WeightChanges | None, tuple[str, ...]]:
        """Return what differs between the checkpoints, from their files if they were read."""
        if self.read_checkpoints is not None:
            facts = self.read_checkpoints(self.fingerprints)
            return facts.weights, facts.differences
        if self.stored.weights is not None or self.stored.differences:
            why = "--models recomputes it from the checkpoints' files"
            self.unchecked |= {f"comparison.{name}": why for name in ("weights", "differences")}
        return self.stored.weights, self.stored.differences

    def _beyond_supervised(self, comparison: Comparison) -> SupervisedControl | None:
        """Return the effects beyond the supervised control's, from the control's own folder."""
        if self.stored.supervised is None:
            return None
        try:
            if self.supervised is not None:
                return beyond_supervised(comparison, self.supervised)
            self.unchecked["comparison.supervised"] = "the pair's folder has no folder control"
        except RLCircuitsError as error:
            self.problems[SUPERVISED] = str(error)
        return self.stored.supervised

    def _measured_elsewhere(self, made: Comparison) -> dict[str, Any]:
        """Return the fields of the file that nothing here makes, as those that a later stage of a run measures."""
        found = {}
        for field in fields(Comparison):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            stored = getattr(self.stored, field.name)
            if field.name not in (*_MADE, *_ASKED_FOR) and getattr(made, field.name) == default != stored:
                found[field.name] = stored
                self.unchecked[f"comparison.{field.name}"] = _WHY_NOT.get(field.name, "nothing recomputes it yet")
        return found

    def _lacking(self, what: str) -> str:
        unknown = [side for side, evidence in self.evidence.items() if evidence.fingerprint is None]
        if unknown:
            return f"the store does not have the scores of {' and '.join(unknown)}, which lead to those of {what}"
        return f"the store does not have {what}"

    @property
    def fingerprints(self) -> dict[Side, str | None]:
        """Return the fingerprint that the store records of each side's weights; None where there is none."""
        return {side: evidence.fingerprint for side, evidence in self.evidence.items()}

    @property
    def _how(self) -> HowScored:
        return self.scores["before"].how if self.scores else DEFAULT_SCORING

    @property
    def _granularity(self) -> str:
        return self.scores["before"].graph.granularity if self.scores else self.stored.granularity


def _noised_groups(stored: Collection[str], weights: WeightChanges | None) -> Collection[str]:
    """Return the groups that a run measures which measured the stored ones: all that the training changed."""
    if not stored or weights is None:
        return stored
    return {group for group, summary in weights.by_group().items() if summary.changed}


def _asked(answers: Answers) -> set[str]:
    return {item.question_id for item in answers.items}


def _fields_of_answers(before: Answers, after: Answers) -> dict[str, Any]:
    """Return the fields of a comparison that both sides' answers give."""
    return {
        "before": before.model,
        "after": after.model,
        "questions": before.question_set,
        "split": before.split,
        "sampling": before.sampling.table(),
        "prompting": None if before.prompting is None else before.prompting.model_dump(),
    }


def _fields_of(pairing: Pairing) -> dict[str, Any]:
    """Return the fields of a comparison that a pairing gives."""
    return {
        "question_ids": pairing.question_ids,
        "t_cut": pairing.t_cut,
        "ref": pairing.ref,
        "funnel": dict(pairing.funnel),
        "dropped": dict(pairing.dropped_ids),
    }
