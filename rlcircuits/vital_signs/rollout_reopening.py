"""The entropy after each boundary of stored rollouts, of both models of a pair on the same rollouts."""

from __future__ import annotations

from pathlib import Path

from rlcircuits.checkpoints.source import Source, check_same_vocabulary
from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import Notify
from rlcircuits.common.logs import log_stage
from rlcircuits.vital_signs.log_prob_table import AnswerLogProbs
from rlcircuits.vital_signs.reopening import delimiter_segments, reopening, unmatched_delimiter
from rlcircuits.vital_signs.rollout_tokens import load_token_rollouts
from rlcircuits.vital_signs.sign import Sign
from rlcircuits.vital_signs.token_log_probs import answer_log_probs, check_temperature

__all__ = ["rollout_reopening"]


@validate_arguments
def rollout_reopening(
    path: str | Path,
    before: Source,
    after: Source,
    *,
    boundary: str | None = None,
    temperature: float = 1.0,
    batch_tokens: int | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> Sign:
    """Return how far entropy rises again after each boundary of stored rollouts, before and after.

    Each model is run once on all of them; one model is in memory at a time.

    Args:
        path: JSON lines with token ids; see :mod:`rlcircuits.vital_signs.rollout_tokens`.
        before: the checkpoint before training.
        after: the checkpoint after training.
        boundary: a regular expression that ends a step, for rollouts without marks.
        temperature: at which the rollouts were drawn.
        batch_tokens: most tokens, padding included, in a batch; by default as many as fit the memory.
        notify: called with one line of text for each model.
        progress: show a progress bar.

    Raises:
        RLCircuitsError: the file cannot be read, or has neither marks nor is a boundary given, or both; the models'
            vocabularies differ; or a model cannot score a rollout.
    """
    log = notify or log_stage
    check_temperature(temperature)
    tokenizer = before.tokenizer()
    contexts = [getattr(source, "context_length", None) for source in (before, after)]
    context = min((each for each in contexts if each is not None), default=None)
    rollouts = load_token_rollouts(path, tokenizer, temperature, context)
    answers, segments = rollouts.answers, rollouts.segments
    if segments is None and boundary is None:
        raise RLCircuitsError(
            f"{path}: no line has segments, response_mask or loss_mask, so that it is not known where tools' results "
            "are; give them, or with --boundary what ends a step"
        )
    if segments is not None and boundary is not None:
        raise RLCircuitsError(f"{path}: has marks of its own, and --boundary was given too; leave the boundary out")
    if segments is None:
        boundary = boundary or ""
        segments = delimiter_segments(answers.sequences, tokenizer, boundary)
        if (unmatched := unmatched_delimiter(answers.sequences, tokenizer, boundary, segments)) is not None:
            log(unmatched)
    used = {token for sequence in answers.sequences for token in (*sequence.prompt_ids, *sequence.answer_ids)}
    check_same_vocabulary(before, after, used)
    tables: list[AnswerLogProbs] = []
    for side, source in (("before", before), ("after", after)):
        log(f"{side} is run on {len(answers.sequences)} rollouts")
        checkpoint = source.load()
        tables.append(
            answer_log_probs(
                checkpoint,
                answers.sequences,
                batch_tokens=batch_tokens,
                temperature=temperature,
                progress=progress,
            )
        )
        del checkpoint
    old, new = tables
    return reopening(answers, old, new, segments)
