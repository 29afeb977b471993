"""What a process keeps between the stages that it does: the last pair's questions, base, paired answers and effects."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.reused import reuse
from rlcircuits.common.files import Notify
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.from_scores import compare
from rlcircuits.comparison.pairing import Pairing
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.release.answering import PairAnswers
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement, prepare
from rlcircuits.release.pair import Pair
from rlcircuits.release.paired_answers import pair_answers
from rlcircuits.release.scoring import score
from rlcircuits.release.settings import Settings

__all__ = ["StageMemory"]


class StageMemory:
    """What the stages of one pair share, so that a process that does several of them in a row makes it once.

    Of another pair than the last one nothing is kept.
    """

    def __init__(self) -> None:
        self._of: tuple[str, Path] | None = None
        self._measurement: Measurement | None = None
        self._paired: tuple[Pairing, Answers, Answers] | None = None
        self._compared: tuple[Comparison, EdgeScores] | None = None
        self._reusing = ExitStack()

    def close(self) -> None:
        """Keep nothing any longer."""
        self._reusing.close()
        self._of = self._measurement = self._paired = self._compared = None

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
            self.close()
            self._measurement = prepare(pair, settings, None, store, notify, False)
            self._reusing.enter_context(reuse(self._measurement.sources["before"]))
            self._of = key, store
        return replace(self._measurement, notify=notify)

    def paired(self, measurement: Measurement) -> tuple[Pairing, Answers]:
        """Return the pairing of the answers that are in the store, and before's answers.

        Args:
            measurement: what :meth:`measurement` returned last.
        """
        paired, before, _ = self._answers(measurement)
        return paired, before

    def compared(self, measurement: Measurement) -> tuple[Comparison, EdgeScores]:
        """Return the pair's comparison without noise, and before's scores, from the scores that are in the store.

        Args:
            measurement: what :meth:`measurement` returned last.
        """
        if self._compared is None:
            quiet = replace(measurement, notify=lambda _: None)
            paired, before, after = self._answers(measurement)
            scores = {}
            for side, source in quiet.sources.items():
                with LoadedOnce(source) as loaded:
                    scores[side] = score(quiet, loaded, side, paired.before if side == "before" else paired.after)
            pair = measurement.pair
            comparison = compare(
                scores["before"],
                scores["after"],
                paired,
                before,
                after,
                name=pair.name,
                algorithm=pair.algorithm,
                profile=pair.expectations.name,
                rules=measurement.own_rules,
            )
            self._compared = comparison, scores["before"]
        return self._compared

    def _answers(self, measurement: Measurement) -> tuple[Pairing, Answers, Answers]:
        if self._paired is None:
            quiet = replace(measurement, notify=lambda _: None)
            answers = PairAnswers(quiet)
            before = answers.of_before()
            with LoadedOnce(quiet.sources["after"]) as loaded:
                after = answers.of_after(loaded)
                self._paired = pair_answers(quiet, before, after), before, after
        return self._paired
