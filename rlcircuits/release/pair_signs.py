"""Measure the vital signs of a pair that was measured.

Answers come from the pair's folder, those of the noise draws from the run's store, weights from the checkpoints' files.
Both models' log-probabilities of all answers take one forward of each model, and are kept in the store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.questions.source import QuestionSource
from rlcircuits.release.answered_signs import answered_signs
from rlcircuits.release.pair_folders import pair_name, store_of
from rlcircuits.release.sign_log_probs import side_tables
from rlcircuits.release.sign_rules import SignRules
from rlcircuits.release.stored_pair import StoredPair
from rlcircuits.release.stored_signs import PairSigns
from rlcircuits.vital_signs.formats import unmatched_formats
from rlcircuits.vital_signs.from_answers import answer_signs
from rlcircuits.vital_signs.from_log_probs import PairTables, log_prob_signs
from rlcircuits.vital_signs.from_weights import weight_signs
from rlcircuits.vital_signs.mass_audit import harmless_fall
from rlcircuits.vital_signs.reopening import delimiter_segments, unmatched_delimiter
from rlcircuits.vital_signs.scored_answers import scored_answers
from rlcircuits.vital_signs.sign import Sign, beyond_noise

__all__ = ["measure_pair_signs"]


@validate_arguments
def measure_pair_signs(
    folder: str | Path,
    *,
    rules: SignRules | None = None,
    sibling: str | None = None,
    run_models: bool = True,
    answer_anew: Collection[str] = (),
    hint_file: str | Path | None = None,
    questions: QuestionSource | None = None,
    batch_tokens: int | None = None,
    device: str | None = None,
    device_map: str | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> PairSigns:
    """Return the vital signs of a pair that ``run_pair`` or ``rlcircuits compare --output`` has measured.

    Args:
        folder: the pair's folder of results. The run's store beside it gives the noise draws, if it is there.
        rules: how signs are measured and judged; by default as ``SignRules()``.
        sibling: folder or hub id of a checkpoint trained from before on its own right answers, without RL.
        run_models: whether the models are run on the answers; without that, the signs that need it are left out.
        answer_anew: signs for which the models answer anew, of :data:`~rlcircuits.common.choices.ANSWERED_ANEW`.
        hint_file: hints for the sign ``hints``; None for those that the built-in sets have.
        questions: the pair's question set, where it has a file; the pair's folder does not say which.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        device: torch device to run on; by default the best available.
        device_map: how a model is split over several devices.
        notify: called with one line of text for each stage.
        progress: show a progress bar within each stage.

    Raises:
        RLCircuitsError: a file is missing or damaged, a checkpoint is not found or has other weights than those that
            were measured, or noise draws were left out with ``noise_if_needed``.
    """
    log = notify or log_stage
    pair = StoredPair(Path(folder))
    if pair.stored.noise_not_needed is not None and pair.stored.noise_not_needed.draws:
        raise RLCircuitsError(
            f"{folder}: {pair.stored.noise_not_needed.words}; signs are compared with all noise draws, so measure the "
            "pair without noise_if_needed"
        )
    noise = [each.answers for each in pair.controls if each.answers is not None]
    log(f"{pair.stored.name}: signs of {len(pair.answers['before'].items)} answers, {len(noise)} noise draws")
    sources = {side: replace(pair.source(side), device=device, device_map=device_map) for side in SIDES}
    before, after = pair.answers["before"], pair.answers["after"]
    texts = _question_texts(sources["before"], before)
    rules = rules or SignRules()
    for unmatched in unmatched_formats(rules.formats, [each.text for each in (*before.items, *after.items)]):
        log(unmatched)
    how = {"group": rules.group, "classify": rules.classify, "beta": rules.beta}
    draws = [answer_signs(before, draw, texts, **how) for draw in noise]  # type: ignore[arg-type]
    signs = [
        beyond_noise(sign, [draw[place] for draw in draws])
        for place, sign in enumerate(answer_signs(before, after, texts, **how))  # type: ignore[arg-type]
    ]
    log("weights are compared")
    other = None if sibling is None else replace(sources["before"], path=sibling, revision=None)
    signs += weight_signs(sources["before"], sources["after"], other)
    if run_models:
        how_run = {"batch_tokens": batch_tokens, "progress": progress}
        signs += _log_prob_signs(pair, sources, rules.boundary, how_run, log)
    signs += answered_signs(
        answer_anew,
        pair.stored,
        pair.answers,
        sources,
        store_of(Path(folder)),
        questions=questions,
        hint_file=None if hint_file is None else Path(hint_file),
        notify=log,
        progress=progress,
    )
    return PairSigns(pair_name(Path(folder), pair.stored.name), rules.judge(tuple(signs)), len(noise))


def _log_prob_signs(
    pair: StoredPair,
    sources: Mapping[Side, CheckpointSource],
    boundary: str | None,
    how: Mapping[str, Any],
    log: Notify,
) -> tuple[Sign, ...]:
    """Return the signs for which both models are run on all answers.

    No noise draw is: a draw has after's readout, so that it would excuse a readout that lost the right answers.
    """
    before, after = pair.answers["before"], pair.answers["after"]
    store = store_of(pair.folder)
    tables = {side: side_tables(sources[side], side, before, after, store, notify=log, **how) for side in SIDES}
    segments = None
    if boundary is not None:
        sequences, tokenizer = scored_answers(after).sequences, sources["after"].tokenizer()
        segments = delimiter_segments(sequences, tokenizer, boundary)
        if (unmatched := unmatched_delimiter(sequences, tokenizer, boundary, segments)) is not None:
            log(unmatched)
    both = PairTables(tables["before"], tables["after"])
    return log_prob_signs(before, after, both, segments=segments, threshold=harmless_fall(before))


def _question_texts(source: CheckpointSource, answers: Answers) -> dict[str, str]:
    """Return the prompt of each question as text, which has the question's numbers."""
    tokenizer = source.tokenizer()
    prompts = {item.question_id: item.prompt_ids for item in answers.items}
    return {question: tokenizer.decode(ids, skip_special_tokens=True) for question, ids in prompts.items()}
