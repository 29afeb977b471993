"""Both sides' answers as one model of a pair scores them, kept in the run's store so that a second call runs no model.

A table's key is the source's fingerprint, the token ids, the temperature, the token budget and what the table holds.
"""

from __future__ import annotations

from pathlib import Path

from rlcircuits.answers.answer_file import Answers
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import Source
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify, cache_path, content_hash, short_name
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.vital_signs.from_log_probs import SideTables, score_both_sides
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs, sequences_key
from rlcircuits.vital_signs.scored_answers import ScoredAnswers, scored_answers, scoring_temperature
from rlcircuits.vital_signs.token_log_probs import logit_count

__all__ = ["side_tables"]

VERSION = 1
"""To be raised whenever the same inputs may give other numbers, or files another layout."""

DISTRIBUTION_BYTES = 2**28
"""Most bytes of one model's distributions over the vocabulary at after's tokens, of which both models' are held; with
more, the KL divergence is estimated from the tokens alone."""

STORED_BYTES = 2**26
"""Most bytes of a table that is kept in the store."""


def side_tables(
    source: Source,
    side: str,
    before: Answers,
    after: Answers,
    store: Path,
    *,
    batch_tokens: int | None = None,
    progress: bool = False,
    notify: Notify,
) -> SideTables:
    """Return what one model of a pair says of both sides' answers.

    Args:
        source: the model; it is loaded only if a table is missing from the store.
        side: its name in the log.
        before: the answers of the model before.
        after: the answers of the model after.
        store: the run's store, which need not exist.
        batch_tokens: most tokens, padding included, in a batch.
        progress: show a progress bar.
        notify: called with one line of text.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.vital_signs.from_log_probs.score_both_sides`.
    """
    kept = _KeptTables(source, store, batch_tokens, notify)
    ours, theirs = (scored_answers(each) for each in (before, after))
    temperatures = [scoring_temperature(each.sampling) for each in (before, after)]
    on_before = kept.find(ours, temperatures[0], features=True)
    on_after = kept.find(theirs, temperatures[1], distributions=True) or kept.find(theirs, temperatures[1])
    if on_before is not None and on_after is not None:
        notify(f"{side}'s log-probabilities of all answers are in the store")
        return SideTables(on_before, on_after)
    notify(f"{side} is run on all answers")
    with LoadedOnce(source) as loaded:
        checkpoint = loaded.load()
        tables = score_both_sides(
            checkpoint,
            before,
            after,
            batch_tokens=batch_tokens,
            distributions=_are_small(checkpoint, theirs),
            progress=progress,
        )
        loaded.fingerprint()  # an error if the files have changed meanwhile
    for table in (tables.on_before, tables.on_after):
        kept.keep(table)
    return tables


def _are_small(checkpoint: Checkpoint, answers: ScoredAnswers) -> bool:
    tokens = sum(len(sequence.answer_ids) for sequence in answers.sequences)
    return 4 * tokens * logit_count(checkpoint) <= DISTRIBUTION_BYTES


class _KeptTables:
    """One model's tables in a store."""

    def __init__(self, source: Source, store: Path, batch_tokens: int | None, notify: Notify) -> None:
        self._source, self._store, self._batch_tokens, self._notify = source, store, batch_tokens, notify

    def find(
        self, answers: ScoredAnswers, temperature: float, *, features: bool = False, distributions: bool = False
    ) -> AnswerLogProbs | None:
        """Return a table from the store; None if it is not there, or damaged."""
        if not self._store.is_dir():
            return None
        key = sequences_key(answers.sequences)
        path = self._path(key, temperature, features, distributions)
        if not path.exists():
            return None
        try:
            found = AnswerLogProbs.load(path)
            if (found.key, found.temperature) != (key, temperature):
                raise RLCircuitsError(f"{path} is of other answers or another temperature than its name says")
        except RLCircuitsError as error:
            self._notify(f"{error}; the log-probabilities are computed again")
            return None
        return found

    def keep(self, table: AnswerLogProbs) -> None:
        """Write a table into the store, if there is one, unless it is large."""
        arrays = (table.log_probs, table.entropies, table.top_log_probs, table.features, table.distributions)
        if not self._store.is_dir() or sum(array.nbytes for array in arrays if array is not None) > STORED_BYTES:
            return
        held = table.features is not None, table.distributions is not None
        try:
            table.save(self._path(table.key, table.temperature, *held))
        except RLCircuitsError as error:  # a store that may only be read
            self._notify(f"{error}; the log-probabilities are not kept")

    def _path(self, key: str, temperature: float, features: bool, distributions: bool) -> Path:
        parts = {
            "version": VERSION,
            "fingerprint": self._source.fingerprint(),
            "sequences": key,
            "temperature": temperature,
            "batch_tokens": self._batch_tokens,
            "features": features,
            "distributions": distributions,
        }
        words = (short_name(self._source.name), "log-probs")
        return cache_path(self._store, words, content_hash(parts), ".safetensors")
