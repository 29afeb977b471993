"""Collect what is stored of a pair into one plain structure, from which every section of the page is made.

Each part is read on its own. One that is not there, or that cannot be read, is a :class:`Missing` with a line that says
how to get it, and the rest of the page is shown all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.attribution.run_files import sequences_hash
from rlcircuits.attribution.stored_runs import StoredScores, stored_scores
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import COMPARISON_FILE
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.verdict import Verdict, judge
from rlcircuits.release.pair_folders import store_of
from rlcircuits.release.run_record import RUN_FILE, RunRecord, load_run
from rlcircuits.release.stored_pair import StoredPair
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.release.throughput import Throughput, read_throughput
from rlcircuits.report.page.edge_means import EdgeMeans, mean_edges

__all__ = ["Missing", "PairData", "collect_pairs"]

_T = TypeVar("_T")

_ReadStore = Callable[[Path], Sequence[StoredScores]]
"""Returns the runs in a folder of stored scores."""

_IN_FOLDER = "rlcircuits report FOLDER --html FILE reads it from the output folder of rlcircuits compare --output"


@dataclass(frozen=True)
class Missing:
    """A part that is not stored, or cannot be read."""

    how: str
    """One line: what is missing, and how to get it."""


@dataclass(frozen=True, eq=False)
class PairData:
    """All that is stored of a pair."""

    comparison: Comparison
    verdict: Verdict
    signs: PairSigns | Missing
    answers: Mapping[Side, Answers] | Missing
    """Both models' answers to all questions asked."""
    edges: EdgeMeans | Missing
    """Both models' mean edge scores over the compared questions."""
    fingerprints: Mapping[Side, str] | Missing
    """Of the weights that were scored."""
    run: RunRecord | Missing
    """The command, versions, settings and questions."""
    stages: tuple[Throughput, ...] | Missing
    """The stages of the run that the pair was measured in, all of its pairs together."""
    measured: datetime | None
    """When ``comparison.json`` was written; None if its folder is not known."""


def collect_pairs(
    comparisons: Sequence[Comparison], signs: Sequence[PairSigns], folders: Sequence[Path]
) -> list[PairData]:
    """Return what is stored of each pair.

    Args:
        comparisons: the pairs.
        signs: the vital signs of some of them, found by the pair's name.
        folders: the folder of results of each comparison, in their order; empty if they are not known.
    """
    by_name = {one.name: one for one in signs}
    places: Sequence[Path | None] = folders or [None] * len(comparisons)
    runs = cache(stored_scores)  # the pairs of a release share one store, which is read once
    return [
        _collect(comparison, by_name.get(comparison.name), folder, runs)
        for comparison, folder in zip(comparisons, places, strict=True)
    ]


def _collect(comparison: Comparison, signs: PairSigns | None, folder: Path | None, runs: _ReadStore) -> PairData:
    stored = _Stored(comparison, folder)
    run = stored.read("The command, versions and questions are not stored here", _run)
    return PairData(
        comparison=comparison,
        verdict=judge(comparison),
        signs=signs or Missing("No vital signs are stored. rlcircuits signs FOLDER measures them."),
        answers=stored.read("No answers are stored here", lambda pair: pair.answers),
        edges=_edges(stored),
        fingerprints=_first_found(run, stored, runs),
        run=run,
        stages=stored.read("No times are stored here", lambda pair: _stages(pair.folder)),
        measured=_written(folder),
    )


def _run(pair: StoredPair) -> RunRecord:
    if not (pair.folder / RUN_FILE).exists():
        raise RLCircuitsError(
            f"no number depends on them; an earlier version measured the pair, or its {RUN_FILE} was not copied along"
        )
    return load_run(pair.folder)


class _Stored:
    """A pair's folder, whose parts are read one by one."""

    def __init__(self, comparison: Comparison, folder: Path | None) -> None:
        self.comparison = comparison
        self.folder = folder

    @cached_property
    def _pair(self) -> StoredPair:
        assert self.folder is not None
        return StoredPair(self.folder)

    def read(self, missing: str, load: Callable[[StoredPair], _T]) -> _T | Missing:
        """Return what ``load`` reads, or why it cannot."""
        if self.folder is None:
            return Missing(f"{missing}: {_IN_FOLDER}.")
        try:
            return load(self._pair)
        except RLCircuitsError as error:
            return Missing(f"{missing}: {error}.")


def _edges(stored: _Stored) -> EdgeMeans | Missing:
    if not stored.comparison.is_measured:
        return Missing("No edge was scored, since too few questions were left to compare.")
    return stored.read("No edge scores are stored here", mean_edges)


def _first_found(run: RunRecord | Missing, stored: _Stored, runs: _ReadStore) -> Mapping[Side, str] | Missing:
    """Return the fingerprints of the record, else those in the store: a folder of an earlier version has no record."""
    if isinstance(run, RunRecord):
        return {side: run.fingerprints[side] for side in SIDES if side in run.fingerprints}
    return stored.read("No fingerprints are stored here", lambda pair: _fingerprints(pair, runs))


def _fingerprints(pair: StoredPair, read_store: _ReadStore) -> Mapping[Side, str]:
    """Return the fingerprint of each side's weights, as the run's store names them beside the sequences' hash."""
    runs = read_store(store_of(pair.folder)) if pair.stored.is_measured else ()
    found: dict[Side, str] = {}
    for side in SIDES:
        wanted, model = sequences_hash(pair.sequences(side)), pair.answers[side].model
        for run in runs:
            if (run.sequences, run.model) == (wanted, model):
                found[side] = run.fingerprint
    if not found:
        raise RLCircuitsError("the run's store (the folder store beside the pair's) does not have its scores")
    return found


def _stages(folder: Path) -> tuple[Throughput, ...]:
    stages = read_throughput(store_of(folder))
    if not stages:
        raise RLCircuitsError("the run's store (the folder store beside the pair's) has no record of them")
    return stages


def _written(folder: Path | None) -> datetime | None:
    if folder is None:
        return None
    try:
        seconds = (folder / COMPARISON_FILE).stat().st_mtime
    except OSError:
        return None
    return datetime.fromtimestamp(seconds, UTC)
