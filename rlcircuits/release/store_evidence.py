"""What a run's store still proves about its results: which weights and answers the scores were made with.

The store keeps every stage's result under a key of everything that it depends on
(:mod:`rlcircuits.attribution.cache`, :mod:`rlcircuits.answers.cache`). From it follow

- that a side's scores are of the token ids that the pairing selects, and of which weights (their fingerprint);
- the answers and scores of the noise draws, which are kept nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.cache import cached_headers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.attribution.cache import StoredScores, sequences_hash, stored_scores
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.control_pairing import pair_control
from rlcircuits.comparison.from_scores import Control
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.differences import Difference


@dataclass(frozen=True)
class SideEvidence:
    """What the store says about one side's scores."""

    fingerprint: str | None
    """Of the weights that gave exactly these scores on exactly these token ids; None if the store has no such run."""
    difference: Difference | None = None
    """First score that differs, if the store has a run on these token ids, but with other scores."""


class StoreEvidence:
    """The finished runs of a store, searched for those of one pair."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._runs = stored_scores(store) if store.is_dir() else ()

    def of_side(self, side: Side, sequences: Sequence[AnswerSequence], scores: EdgeScores) -> SideEvidence:
        """Look for the run that gave a side's scores.

        Args:
            side: which side.
            sequences: what the pairing says was scored.
            scores: the scores in the pair's folder.
        """
        differences = []
        for run in self._on(sequences, scores.graph.granularity):
            found = _first_difference(f"{side} scores", scores, run.load(sequences))
            if found is None:
                return SideEvidence(run.fingerprint)
            differences.append(found)
        return SideEvidence(None, differences[0] if differences else None)

    def control(
        self,
        draw: int,
        pairing: Pairing,
        answers: Mapping[Side, Answers],
        fingerprints: Mapping[Side, str | None],
        granularity: str,
    ) -> Control | None:
        """Return a noise draw's answers and scores, or None if the store does not have them.

        Args:
            draw: the draw's number.
            pairing: the pairing of before and after.
            answers: the answers that it was made from.
            fingerprints: of the two checkpoints, which give that of the draw.
            granularity: of the graph.
        """
        before, after = (fingerprints[side] for side in SIDES)
        if before is None or after is None:
            return None
        source = NoisedSource(
            _Recorded(answers["before"].model, before), _Recorded(answers["after"].model, after), draw
        )
        wanted = source.fingerprint()
        runs = [run for run in self._runs if run.fingerprint == wanted and run.granularity == granularity]
        without_scores = []
        for found in self._answers_of(source, answers["before"]):
            paired = pair_control(pairing, answers["before"], found)
            scored = sequences_hash(paired.sequences)
            for run in runs:
                if run.sequences == scored:
                    return Control(draw, found, paired, run.load(paired.sequences))
            without_scores.append(Control(draw, found, paired, None))
        # Without scores only the name says whose answers these are, so there must be no doubt.
        return without_scores[0] if len(without_scores) == 1 and not runs else None

    def _on(self, sequences: Sequence[AnswerSequence], granularity: str) -> Iterator[StoredScores]:
        wanted = sequences_hash(sequences)
        for run in self._runs:
            if run.sequences == wanted and run.granularity == granularity:
                yield run

    def _answers_of(self, source: NoisedSource, before: Answers) -> Iterator[Answers]:
        task = before.question_set, before.split, before.sampling
        # Another run may have asked first, and have known the same folder by another path.
        ending = source.name.removeprefix(source.before.name)
        for path, header in cached_headers(self.store):
            if header.model.endswith(ending) and (header.question_set, header.split, header.sampling) == task:
                try:
                    yield Answers.load(path)
                except RLCircuitsError:
                    continue  # an unfinished run


@dataclass(frozen=True)
class _Recorded:
    """A source of which only the name and the fingerprint are known."""

    name: str
    known: str

    def fingerprint(self) -> str:
        return self.known

    def tokenizer(self) -> Any:
        raise RLCircuitsError(f"of {self.name} only the fingerprint is known")

    def load(self) -> Checkpoint:
        raise RLCircuitsError(f"of {self.name} only the fingerprint is known")


def _first_difference(what: str, found: EdgeScores, stored: EdgeScores) -> Difference | None:
    """Return the first score or loss that is not the same, bit by bit."""
    if not found.graph.same_as(stored.graph) or found.values.shape != stored.values.shape:
        return Difference(f"{what}, shape", list(found.values.shape), list(stored.values.shape))
    for name, ours, theirs in (("values", found.values, stored.values), ("loss", found.loss, stored.loss)):
        places = torch.nonzero(ours != theirs)
        if len(places):
            place = tuple(places[0].tolist())
            return Difference(f"{what}, {name}{list(place)}", float(ours[place]), float(theirs[place]))
    return None
