"""What a pair's folder of results and its run's store hold, read as far as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.files import COMPARISON_FILE
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.from_scores import Control
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.pair_folders import read_result, store_of
from rlcircuits.release.repeated_pairing import repeat_pairing
from rlcircuits.release.result_files import answers_file, scores_file
from rlcircuits.release.store_evidence import Fingerprints, StoreEvidence
from rlcircuits.release.verified_inputs import scored_source

__all__ = ["StoredPair"]


class StoredPair:
    """A pair that ``run_pair`` has measured. Its properties raise RLCircuitsError for a missing or damaged file.

    Args:
        folder: the pair's folder of results. The run's store beside it gives the noise draws, if it is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored: Comparison = read_result(load_comparison, folder / COMPARISON_FILE, "a comparison")

    @cached_property
    def answers(self) -> Mapping[Side, Answers]:
        """Both sides' answers."""
        return {side: read_result(Answers.load, answers_file(self.folder, side), "answers") for side in SIDES}

    @cached_property
    def pairing(self) -> Pairing:
        """The sequences that were compared."""
        return repeat_pairing(self.stored, self.answers["before"], self.answers["after"])

    @cached_property
    def scores(self) -> Mapping[Side, EdgeScores]:
        """Each side's scores of them."""
        return {side: read_result(EdgeScores.load, scores_file(self.folder, side), "edge scores") for side in SIDES}

    def sequences(self, side: Side) -> tuple[AnswerSequence, ...]:
        """Return the sequences that a side was scored on."""
        return self.pairing.before if side == "before" else self.pairing.after

    def source(self, side: Side) -> CheckpointSource:
        """Return the source of a side's checkpoint, with the weights and in the dtype that were scored."""
        return scored_source(self.stored, side, self._fingerprints[side])

    @cached_property
    def controls(self) -> tuple[Control, ...]:
        """The noise draws, as far as the store has them; none of a pair that was not measured."""
        if not self.stored.is_measured:
            return ()
        found = []
        for place, draw in enumerate(self.stored.controls):
            drawn = replace(draw, draw=place)
            control = self._store.control(
                drawn,
                self.pairing,
                self.answers,
                self._fingerprints,
                self.stored.granularity,
                self.scores["before"].how,
            )
            if control is not None:
                found.append(control)
        return tuple(found)

    @cached_property
    def _store(self) -> StoreEvidence:
        return StoreEvidence(store_of(self.folder), self.stored.score_on == "gold")

    @cached_property
    def _fingerprints(self) -> Fingerprints:
        """Fingerprint of each side's weights that were scored; None where no store tells it."""
        if not self.stored.is_measured:
            return dict.fromkeys(SIDES)
        return {
            side: self._store.of_side(side, self.sequences(side), scores).fingerprint
            for side, scores in self.scores.items()
        }
