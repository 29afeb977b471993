"""What a run's store still proves about its results: which weights and answers the scores were made with.

The store keeps every stage's result under a key of everything that it depends on
(:mod:`rlcircuits.attribution.cache`, :mod:`rlcircuits.answers.cache`). From it follow

- that a side's scores are of the token ids that the pairing selects, and of which weights (their fingerprint);
- the answers and scores of the noise draws, the scores of noise on one group of tensors, and the answers of the
  checkpoint that a release refers to, which are kept nowhere else.

What the store never had, or no longer has, is absent. What it has and cannot be read is an error: a damaged store is
not taken for one that has less in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlcircuits.answers.answer_file import Answers, Header
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.attribution.run_files import sequences_hash
from rlcircuits.attribution.stored_runs import DamagedScores, StoredScores, read_store
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import fetch_stored, short_name
from rlcircuits.comparison.comparison import ControlDraw
from rlcircuits.comparison.control_pairing import pair_control, pair_with_itself
from rlcircuits.comparison.from_scores import Control, NoisedGroup
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.how_scored import DEFAULT_SCORING, HowScored
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.models.tensor_groups import Group
from rlcircuits.release.differences import Difference
from rlcircuits.release.pair_folders import path_exists
from rlcircuits.release.stored_answers import DamagedAnswers, read_answer_files

Fingerprints = Mapping[Side, str | None]
"""Fingerprints of the two checkpoints; None for one that the store does not tell."""

_ADVICE = "; copy the store again from where it came, or remove that file or folder and measure the pair again"


@dataclass(frozen=True)
class SideEvidence:
    """What the store says about one side's scores."""

    fingerprint: str | None
    """Of the weights that gave exactly these scores on exactly these token ids; None if the store has no such run."""
    difference: Difference | None = None
    """First score that differs, if the store has a run on these token ids, but with other scores."""


class StoreEvidence:
    """The results in a store, searched for those of one pair.

    Args:
        store: the store's folder, which need not exist.
        gold: whether gold answers were scored. No file holds their token ids, so that runs are found by the weights and
            the number of sequences alone.

    Raises:
        RLCircuitsError: the folder cannot be read.
    """

    def __init__(self, store: Path, gold: bool = False) -> None:
        self.store, self.gold = store, gold
        fetch_stored(store)
        exists = path_exists(store, "a store")
        self._runs = read_store(store) if exists else ()
        self._answers = tuple(read_answer_files(store)) if exists else ()

    def of_side(self, side: Side, sequences: Sequence[AnswerSequence], scores: EdgeScores) -> SideEvidence:
        """Look for the run that gave a side's scores.

        Args:
            side: which side.
            sequences: what the pairing says was scored.
            scores: the scores in the pair's folder.

        Raises:
            RLCircuitsError: the store has no undamaged run, and a damaged one that may be it.
        """
        differences = []
        for run in self._on(sequences, scores.graph.granularity, None, scores.how):
            found = _first_difference(f"{side} scores", scores, run.load(sequences))
            if found is None:
                return SideEvidence(run.fingerprint)
            differences.append(found)
        return SideEvidence(None, differences[0] if differences and not self.gold else None)

    def control(
        self,
        stored: ControlDraw,
        pairing: Pairing,
        answers: Mapping[Side, Answers],
        fingerprints: Fingerprints,
        granularity: str,
        how: HowScored = DEFAULT_SCORING,
    ) -> Control | None:
        """Return a noise draw's answers and scores, or None if the store does not have them.

        Args:
            stored: what the comparison says of the draw: its number, and whether it answered anything.
            pairing: the pairing of before and after.
            answers: the answers that it was made from.
            fingerprints: of the two checkpoints, which give that of the draw.
            granularity: of the graph.
            how: how before's scores were made.

        Raises:
            RLCircuitsError: what the store has of the draw is damaged.
        """
        source = _noised(answers, fingerprints, stored.draw)
        if source is None:
            return None
        wanted = source.fingerprint()
        if stored.accuracy is None:
            for run in self._on(pairing.before, granularity, wanted, how):
                return Control(stored.draw, None, pair_with_itself(pairing), run.load(pairing.before))
            return None
        without_scores = []
        # Another run may have asked first, and have known the same folder by another path.
        ending = source.name.removeprefix(source.before.name)
        known = self._answers_of(lambda model: model.endswith(ending), answers["before"])
        # First those to the same prompts and pictures: a file of questions may have changed between two runs.
        for found in sorted(known, key=lambda each: _asked(each) != _asked(answers["before"])):
            paired = pair_control(pairing, answers["before"], found)
            for run in self._on(paired.sequences, granularity, wanted, how):
                return Control(stored.draw, found, paired, run.load(paired.sequences))
            without_scores.append(Control(stored.draw, found, paired, None))
        # Without scores only the name says whose answers these are, so there must be no doubt.
        scored = any(isinstance(run, StoredScores) and run.fingerprint == wanted for run in self._runs)
        return without_scores[0] if len(without_scores) == 1 and not scored else None

    def group(
        self,
        group: Group,
        pairing: Pairing,
        answers: Mapping[Side, Answers],
        fingerprints: Fingerprints,
        granularity: str,
        how: HowScored = DEFAULT_SCORING,
    ) -> NoisedGroup | None:
        """Return the scores of noise on one group of tensors, or None if the store does not have them.

        The arguments and the errors are those of :meth:`control`.
        """
        source = _noised(answers, fingerprints, 0, group)
        if source is not None:
            for run in self._on(pairing.before, granularity, source.fingerprint(), how):
                return NoisedGroup(group, run.load(pairing.before))
        return None

    def answers_of(self, checkpoint: str, task: Answers) -> tuple[Answers, ...]:
        """Return a checkpoint's answers to the same questions with the same sampling, found by the checkpoint's name.

        Args:
            checkpoint: its folder or hub id.
            task: other answers to those questions.

        Raises:
            RLCircuitsError: the store has none but in a damaged file.
        """
        exact = tuple(self._answers_of(lambda model: model == checkpoint, task))
        return exact or tuple(self._answers_of(lambda model: short_name(model) == short_name(checkpoint), task))

    def _on(
        self, sequences: Sequence[AnswerSequence], granularity: str, fingerprint: str | None, how: HowScored
    ) -> Iterator[StoredScores]:
        """Yield the finished runs on these sequences; with a fingerprint, those of that source."""
        wanted, count = sequences_hash(sequences), len(set(sequences))
        found, damaged = False, []
        for run in self._runs:
            if fingerprint and run.fingerprint not in (None, fingerprint):
                continue
            if isinstance(run, DamagedScores):
                if self.gold or run.sequences in (None, wanted):
                    damaged.append(run.words)
            elif (run.granularity, run.how) != (granularity, how):
                continue
            elif run.count == count if self.gold else run.sequences == wanted:
                found = True
                yield run
        if damaged and not found:
            raise RLCircuitsError(f"{damaged[0]}{_ADVICE}")

    def _answers_of(self, is_wanted: Callable[[str], bool], task: Answers) -> Iterator[Answers]:
        damaged, found = [], False
        for path, header in self._answers:
            if isinstance(header, DamagedAnswers):
                damaged.append(header.words)
            elif is_wanted(header.model) and _task_of(header) == _task_of(task):
                try:
                    answers = Answers.load(path)
                except RLCircuitsError as error:
                    damaged.append(str(error))
                else:
                    found = True
                    yield answers
        if damaged and not found:
            raise RLCircuitsError(f"{damaged[0]}{_ADVICE}")


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


def _noised(
    answers: Mapping[Side, Answers], fingerprints: Fingerprints, draw: int, group: Group | None = None
) -> NoisedSource | None:
    """Return before with noise, of which only name and fingerprint are known; None if not even these are."""
    before, after = (fingerprints[side] for side in SIDES)
    if before is None or after is None:
        return None
    recorded = _Recorded(answers["before"].model, before), _Recorded(answers["after"].model, after)
    return NoisedSource(*recorded, draw, group)


def _task_of(asked: Answers | Header) -> tuple[object, ...]:
    return asked.question_set, asked.split, asked.sampling


def _asked(answers: Answers) -> set[tuple[object, ...]]:
    """Return each question with its prompt and images."""
    return {(item.question_id, item.prompt_ids, item.images) for item in answers.items}


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
