"""Measure of a pair what ``[circuits]`` asks for: the circuits' overlap, their faithfulness, how good the scores are.

Circuits are found on every other compared question, and judged on the others. Each model is loaded once more:

1. before, and then after: the edges with the highest scores and random ones are removed, each alone, to say how well
   scores estimate that; for ``resample``, scores of the same replacement are made;
2. after: all edges outside before's circuit are removed, and all outside after's.

The overlap is that of the run's own scores, over all compared questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.circuits.carried import Carried, carried_at_size
from rlcircuits.circuits.circuit_comparison import overlap_at_size
from rlcircuits.circuits.corruptions import other_sequences
from rlcircuits.circuits.edge_mask import check_can_ablate
from rlcircuits.circuits.estimates import estimate_quality
from rlcircuits.circuits.evaluate import HowAblated
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.stage_times import stage
from rlcircuits.comparison.circuit_checks import Agreement, CircuitChecks
from rlcircuits.comparison.from_scores import Control
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.circuit_scores import patching_scores, rows_of_half
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.scoring import estimator_options
from rlcircuits.release.split_questions import FIND, JUDGE, first_rows, scores_to_find_on

MOST_JUDGED = 200
"""Most sequences that the circuits are judged on."""

MOST_ESTIMATED = 50
"""Most of these sequences on which single edges are removed, which takes a forward for each edge and sequence."""

ESTIMATED_EDGES = 50
"""Edges with the highest scores, and as many random ones, that are removed alone."""

_NAN = float("nan")


def check_circuits(measurement: Measurement) -> None:
    """Raise RLCircuitsError if edges cannot be removed, or the noise that the overlap needs will not be measured."""
    rules = measurement.pair.circuits
    if rules is not None:
        check_can_ablate(measurement.settings.granularity)
    if rules is not None and rules.minimum_overlap is not None and not measurement.settings.noise_draws:
        raise RLCircuitsError(
            "circuits.minimum_overlap is a share of the overlap that noise leaves, and noise_draws is 0; measure noise "
            "(noise_draws), or leave minimum_overlap out"
        )


def unmeasured_circuits(rules: CircuitRules | None) -> CircuitChecks | None:
    """Return what is known of a pair with too few questions to compare: what is asserted; None if nothing is asked."""
    return None if rules is None else CircuitChecks(**rules.model_dump())


@stage("circuits")
def measure_circuits(
    measurement: Measurement, paired: Pairing, scores: Mapping[Side, EdgeScores], controls: Sequence[Control]
) -> CircuitChecks | None:
    """Return what was found of the pair's circuits; None if it asks for nothing.

    Args:
        measurement: the pair.
        paired: the sequences that were compared, one question at least.
        scores: each side's scores of them.
        controls: the noise draws.
    """
    rules = measurement.pair.circuits
    if rules is None:
        return None
    noise = [(each.scores, each.paired.places) for each in controls if each.scores is not None]
    overlap = overlap_at_size(
        scores["before"],
        scores["after"],
        rules.size,
        noise=[each for each, _ in noise],
        questions=paired.places,
        noise_questions=[places for _, places in noise],
    )
    estimates: dict[str, tuple[Agreement, ...]] = {}
    found_by: dict[Side, EdgeScores] = {}
    carried = Carried(_NAN, _NAN, (_NAN, _NAN), overlap.n_edges)
    judged = 0
    for side in SIDES:
        with LoadedOnce(measurement.sources[side]) as loaded:
            stage = _Stage(measurement, loaded, side, paired, scores[side])
            estimates[side] = stage.estimates()
            if (of_side := stage.scores_to_find_by()) is not None:
                found_by[side] = of_side
            if side == "after" and len(found_by) == len(SIDES):
                carried, judged = stage.carried(found_by)
    return CircuitChecks(
        **rules.model_dump(),
        n_edges=overlap.n_edges,
        judged=judged,
        overlap=overlap.jaccard,
        overlap_interval=(min(overlap.interval[0], overlap.jaccard), max(overlap.interval[1], overlap.jaccard)),
        noise=overlap.noise,
        faithfulness=carried.other,
        faithfulness_interval=carried.interval,
        own_faithfulness=carried.own,
        estimates=estimates,
    )


class _Stage:
    """What one loaded model is measured on."""

    def __init__(
        self, measurement: Measurement, loaded: LoadedOnce, side: Side, paired: Pairing, scores: EdgeScores
    ) -> None:
        assert measurement.pair.circuits is not None, "the pair asks for its circuits"
        self._rules: CircuitRules = measurement.pair.circuits
        self._measurement, self._loaded, self._side = measurement, loaded, side
        self._scores, self._places = scores, paired.places
        self._sequences = paired.before if side == "before" else paired.after
        settings = measurement.settings
        self._how: Mapping[str, Any] = {"batch_tokens": settings.batch_tokens, "progress": measurement.progress}

    def estimates(self) -> tuple[Agreement, ...]:
        """Return how the scores agree with the exact effects, of the best edges and of random others."""
        rows = (first_rows(self._places, JUDGE) or first_rows(self._places, FIND))[:MOST_ESTIMATED]
        self._log(f"single edges are removed on {len(rows)} answers")
        found = estimate_quality(
            self._loaded.load(), self._of(rows), self._scores.of_rows(rows), count=ESTIMATED_EDGES, **self._how
        )
        return tuple(each for each in (found.top, found.random) if each.n_edges)

    def scores_to_find_by(self) -> EdgeScores | None:
        """Return the scores that the circuits are found by; None if there is no sequence to find them on."""
        rows = self._rows(FIND)
        if not rows:
            return None
        if self._rules.ablation != "resample":
            return scores_to_find_on(self._scores, self._places)
        self._log(f"attributed on {len(rows)} answers, with others in their place")
        found_on = self._of(rows)
        with LoadedOnce(self._measurement.sources["after" if self._side == "before" else "before"]) as other:
            estimator = estimator_options(self._measurement, self._loaded, other, found_on)
            granularity = self._scores.graph.granularity
            return patching_scores(self._loaded.load(), found_on, granularity, **self._how, **estimator)

    def carried(self, found_by: Mapping[Side, EdgeScores]) -> tuple[Carried, int]:
        """Return how faithful both sides' circuits are in this model, and on how many sequences that was judged."""
        rows = self._rows(JUDGE)
        if not rows:
            n_edges = max(1, int(self._rules.size * self._scores.graph.n_edges))
            return Carried(_NAN, _NAN, (_NAN, _NAN), n_edges), 0
        corrupted = other_sequences(self._of(rows))[:MOST_JUDGED] if self._rules.ablation == "resample" else None
        rows = rows[:MOST_JUDGED]
        self._log(f"circuits are run on {len(rows)} answers")
        found = carried_at_size(
            self._loaded.load(),
            self._of(rows),
            found_by["after"],
            found_by["before"],
            self._rules.size,
            HowAblated(self._rules.ablation, corrupted, **self._how),
        )
        return found, len(rows)

    def _rows(self, parity: int) -> list[int]:
        return rows_of_half(self._sequences, self._places, parity, paired=self._rules.ablation == "resample")

    def _of(self, rows: Sequence[int]) -> list[AnswerSequence]:
        return [self._sequences[row] for row in rows]

    def _log(self, line: str) -> None:
        self._measurement.log(f"{self._side}: {line}")
