"""What a process keeps between the stages that it does: the questions and the paired answers of the last pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.common.files import Notify
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.release.answering import PairAnswers
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement, prepare
from rlcircuits.release.pair import Pair
from rlcircuits.release.paired_answers import pair_answers
from rlcircuits.release.settings import Settings

__all__ = ["StageMemory"]


class StageMemory:
    """What the stages of one pair share, so that a process that does several of them in a row makes it once.

    Of another pair than the last one nothing is kept.
    """

    def __init__(self) -> None:
        self._of: tuple[str, Path] | None = None
        self._measurement: Measurement | None = None
        self._paired: tuple[Pairing, Answers] | None = None

    def measurement(self, pair: Pair, settings: Settings, key: str, store: Path, notify: Notify) -> Measurement:
        """Return a pair's measurement without a folder of results.

        Args:
            pair: the pair.
            settings: how it is measured.
            key: its :func:`~rlcircuits.release.finished.measurement_key`.
            store: the store of the run.
            notify: called with one line of text for each part of the work.

        Raises:
            RLCircuitsError: as :func:`~rlcircuits.release.measurement.prepare`.
        """
        if self._of != (key, store) or self._measurement is None:
            self._of = self._paired = None
            self._measurement = prepare(pair, settings, None, store, notify, False)
            self._of = key, store
        return replace(self._measurement, notify=notify)

    def paired(self, measurement: Measurement) -> tuple[Pairing, Answers]:
        """Return the pairing of the answers that are in the store, and before's answers.

        Args:
            measurement: what :meth:`measurement` returned last.
        """
        if self._paired is None:
            quiet = replace(measurement, notify=lambda _: None)
            answers = PairAnswers(quiet)
            before = answers.of_before()
            with LoadedOnce(quiet.sources["after"]) as loaded:
                self._paired = pair_answers(quiet, before, answers.of_after(loaded)), before
        return self._paired
