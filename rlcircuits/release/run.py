"""Measure a pair: from two checkpoints to a comparison.

Before any model runs, the weights are compared. Only one model is on the device at a time. Pairing needs both models'
answers, so before is loaded twice:

1. before: load, answer, free;
2. after: load, answer, pair the two models' answers, attribute, free;
3. the reference, if the release names one: load, answer, free;
4. before: load, attribute, free;
5. compare;
6. the noise control, before with after's readout and noise on all else, for each draw: load, answer, attribute on the
   questions that it answered right, free; then on one group of tensors at a time: load, attribute on before's answers,
   free (:mod:`rlcircuits.release.controls`);
7. the circuits, if the pair asks for them: before and after are loaded once more
   (:mod:`rlcircuits.release.gate_circuits`);
8. the supervised control, if the pair states one: a pair of its own (:mod:`rlcircuits.release.supervised`).

An early stop may load both models once more (:mod:`rlcircuits.release.answering`).

With a store, each stage's results are cached as they are made, under a key of everything that they depend on. An
interrupted run resumes, and a stage whose results are all there loads no model. Pairs that share a base share its
answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rlcircuits.answers.recorded import Side
from rlcircuits.checkpoints.reused import reuse
from rlcircuits.checkpoints.unchanged import CheckpointChangedError, check_unchanged
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.choices import SCORE_ON
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import STORE, Notify, ensure_writable_folder, write_lock
from rlcircuits.common.logs import log_stage
from rlcircuits.common.stage_times import current_times, stage
from rlcircuits.comparison.comparison import Comparison, SupervisedControl
from rlcircuits.comparison.from_answers import compare_answers
from rlcircuits.comparison.from_scores import compare
from rlcircuits.comparison.storage import save_comparison
from rlcircuits.comparison.supervised_control import beyond_supervised
from rlcircuits.graph.edge_scores import EdgeScores
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.answering import PairAnswers, engine_names
from rlcircuits.release.checkpoint_differences import check_alike, compare_checkpoints
from rlcircuits.release.claims import measure_claims
from rlcircuits.release.controls import measure_noise
from rlcircuits.release.counterfactuals import check_counterfactuals
from rlcircuits.release.early_stop import LONGEST_EVIDENCE
from rlcircuits.release.finished import finished_comparison, measurement_key
from rlcircuits.release.foils import check_foils
from rlcircuits.release.gate_circuits import check_circuits, measure_circuits, unmeasured_circuits
from rlcircuits.release.greedy import answer_greedily, check_greedy, greedy_accuracy
from rlcircuits.release.loaded_once import LoadedOnce
from rlcircuits.release.measurement import Measurement, prepare
from rlcircuits.release.pair import Pair
from rlcircuits.release.paired_answers import pair_answers
from rlcircuits.release.result_files import remove_results, scores_file
from rlcircuits.release.run_record import save_run
from rlcircuits.release.scoring import score
from rlcircuits.release.settings import Settings
from rlcircuits.release.span_results import check_spans_kept, keep_spans
from rlcircuits.release.supervised import check_control, control_pair, control_settings

SAME_CHECKPOINT = "before and after are the same checkpoint"
"""How the warning of :func:`run_pair` begins."""


@validate_arguments
def run_pair(
    pair: Pair,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    store: str | Path | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> Comparison:
    """Measure one pair and return its comparison.

    If too few questions are left to compare (fewer than `min_questions`), accuracy is measured and the metrics are not:
    the comparison has no question. A pair of which no weight differs is an error, unless the settings have
    `measure_unchanged`. Warns if before and after are the same checkpoint: only chance can then move its metrics.

    Args:
        pair: what to compare.
        settings: how; by default ``Settings()``.
        output: a folder for results. The folder ``output/<pair name>`` gets both models' answers (JSON lines), their
            scores (safetensors) and ``comparison.json``, each as soon as it is made. If it already holds a comparison
            of the same weights, questions and settings, with all these files, that comparison is returned. ``run.json``
            beside them records the command, the versions and the questions.
        store: a folder that caches answers and scores while they are made; by default ``output/store``, or none without
            `output`. If another process is making the same results, this call waits for them.
        notify: called with one line of text for each stage.
        progress: show a progress bar within each stage.

    Raises:
        RLCircuitsError: a checkpoint, the questions or an option is wrong; before and after differ in architecture,
            parameters or tokenizer; no weight differs between them; a checkpoint's files change meanwhile; or the pair
            is stopped early.
    """
    folder = None if output is None else Path(output) / pair.name
    if store is None and output is not None:
        store = Path(output) / STORE
    store = None if store is None else Path(store)
    measurement = prepare(pair, settings or Settings(), folder, store, notify or log_stage, progress)
    _warn_of_one_checkpoint(measurement)
    check_control(measurement)
    check_greedy(measurement)
    check_counterfactuals(measurement.questions, measurement.settings.method)
    check_foils(measurement)
    check_circuits(measurement)
    check_spans_kept(measurement)
    if folder is None:
        if pair.control is None or store is not None:
            return _measure_unchanged(measurement)
        with TemporaryDirectory(prefix="rlcircuits-") as temporary:  # before's answers serve the control too
            return _measure_unchanged(replace(measurement, store=Path(temporary)))
    key = measurement_key(measurement)
    if (finished := finished_comparison(measurement, folder, key, quiet=True)) is not None:
        return finished
    ensure_writable_folder(folder.parent, "output")
    with write_lock(folder, measurement.log):
        # Another process may have finished the pair while this one waited for the lock.
        if (finished := finished_comparison(measurement, folder, key)) is not None:
            return finished
        started = datetime.now(UTC)
        times = current_times()
        earlier = times.snapshot() if times is not None else None
        comparison = _measure_unchanged(measurement)
        save_run(measurement, folder, started, times.table(earlier) if times is not None else ())
        save_comparison(comparison, folder, key)
        return comparison


@validate_arguments
def run_variants(
    pair: Pair,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> tuple[Comparison, ...]:
    """Measure one pair with each choice of :data:`rlcircuits.common.choices.SCORE_ON`: whose answers are scored.

    Answers are generated once. Each comparison's name ends with its choice, except for ``own``.

    Args:
        pair: what to compare.
        settings: how; by default ``Settings()``. Its `score_on` is ignored.
        output: a folder for results; see :func:`run_pair`.
        notify: called with one line of text for each stage.
        progress: show a progress bar within each stage.

    Raises:
        RLCircuitsError: as :func:`run_pair`.
    """
    settings = settings or Settings()
    with TemporaryDirectory(prefix="rlcircuits-") as temporary:
        store = Path(temporary) if output is None else Path(output) / STORE
        comparisons = []
        for score_on in SCORE_ON:
            named = pair if score_on == "own" else pair.model_copy(update={"name": f"{pair.name}-on-{score_on}"})
            variant = replace(settings, score_on=score_on)
            comparisons.append(run_pair(named, variant, output=output, store=store, notify=notify, progress=progress))
        return tuple(comparisons)


def _warn_of_one_checkpoint(measurement: Measurement) -> None:
    """Warn if before and after are the same checkpoint, which may be a typing error."""
    before, after = measurement.sources.values()
    if before.fingerprint() == after.fingerprint():
        names = ", ".join(dict.fromkeys((before.name, after.name)))
        found = f"{SAME_CHECKPOINT}: {names}; nothing but chance can differ"
        measurement.log(found)
        warnings.warn(found, stacklevel=4)


def _measure_unchanged(measurement: Measurement) -> Comparison:
    """Run all stages of a pair, and keep nothing in its folder if a checkpoint's files change meanwhile.

    Raises:
        CheckpointChangedError: they did.
        RLCircuitsError: as :func:`run_pair`.
    """
    fingerprints = [(source, source.fingerprint()) for source in measurement.checkpoints]
    try:
        comparison = measure(measurement)
        for each in fingerprints:
            check_unchanged(*each)
    except CheckpointChangedError:
        if measurement.folder is not None:
            remove_results(measurement.folder)
        raise
    return comparison


def measure(measurement: Measurement) -> Comparison:
    """Run all stages of a pair.

    Raises:
        RLCircuitsError: as :func:`run_pair`.
    """
    with reuse(measurement.sources["before"]):
        return _measured(measurement)


def _measured(measurement: Measurement) -> Comparison:
    before, after = measurement.sources.values()
    check_alike(measurement)
    weights, differences = compare_checkpoints(measurement)
    answers = PairAnswers(measurement)
    before_answers = answers.of_before()
    with LoadedOnce(after) as loaded:
        after_answers = answers.of_after(loaded)
        paired = pair_answers(measurement, before_answers, after_answers)
        greedy_after = answer_greedily(measurement, loaded, "after", after_answers)
        after_scores = _score_side(measurement, loaded, "after", paired.after) if paired.places else None
    claims = measure_claims(measurement, after_answers)
    how: dict[str, Any] = {
        "name": measurement.pair.name,
        "algorithm": measurement.pair.algorithm,
        "profile": measurement.pair.expectations.name,
        "rules": measurement.own_rules,
        "claims": claims,
        "weights": weights,
        "differences": differences,
        "engine": engine_names(measurement),
        "trust_remote_code": measurement.settings.trust_remote_code,
    }
    if after_scores is None:
        with LoadedOnce(before) as loaded:
            greedy = greedy_accuracy(answer_greedily(measurement, loaded, "before", before_answers), greedy_after)
        granularity = measurement.settings.granularity
        answered = compare_answers(
            paired,
            before_answers,
            after_answers,
            granularity=granularity,
            greedy=greedy,
            noise_draws=measurement.settings.noise_draws,
            **how,
        )
        return replace(answered, circuits=unmeasured_circuits(measurement.pair.circuits))
    with LoadedOnce(before) as loaded:
        greedy = greedy_accuracy(answer_greedily(measurement, loaded, "before", before_answers), greedy_after)
        before_scores = _score_side(measurement, loaded, "before", paired.before)
    with stage("statistics"):
        comparison = compare(before_scores, after_scores, paired, before_answers, after_answers, greedy=greedy, **how)
    comparison, controls = measure_noise(measurement, comparison, paired, before_answers, before_scores)
    circuits = measure_circuits(measurement, paired, {"before": before_scores, "after": after_scores}, controls)
    return replace(comparison, circuits=circuits, supervised=_measure_supervised(measurement, comparison))


def _score_side(
    measurement: Measurement, source: LoadedOnce, side: Side, sequences: Sequence[AnswerSequence]
) -> EdgeScores:
    """Score one side of the pair, and keep its scores in the pair's folder of results."""
    scores = score(measurement, source, side, sequences)
    if measurement.folder:
        scores.save(scores_file(measurement.folder, side))
        keep_spans(measurement, source, side, sequences)
    return scores


def _measure_supervised(measurement: Measurement, comparison: Comparison) -> SupervisedControl | None:
    """Return the pair's effects beyond those of its supervised control; None if it states none."""
    pair, settings = measurement.pair, measurement.settings
    if pair.control is None:
        return None
    try:
        supervised = run_pair(
            control_pair(pair),
            control_settings(settings),
            output=measurement.folder,
            store=measurement.store,
            notify=measurement.log,
            progress=measurement.progress,
        )
        return beyond_supervised(comparison, supervised, min_questions=settings.min_questions)
    except CheckpointChangedError:
        raise
    except RLCircuitsError as error:
        raise RLCircuitsError(f"the supervised control {pair.control}: {error}", longest=LONGEST_EVIDENCE) from None
