"""Estimate what measuring a checkpoint, or a pair, on a question set takes: a plan, with a speed measured here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from rlcircuits.answers.engines.registry import open_engine
from rlcircuits.answers.types import Sampling
from rlcircuits.attribution.edge_attribution import attribute
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.release.answering import TRANSFORMERS
from rlcircuits.release.pair import Pair, asked_questions
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan import Plan, make_plan
from rlcircuits.release.settings import Settings

__all__ = ["plan_check", "with_speed"]

_PROFILE = "reported"
"""Of the pair that is planned; what a plan costs does not depend on it."""

_SEQUENCES = 8
_PROMPT, _ANSWER = 24, 16
"""Tokens of the prompts and answers that are timed, if the context has room for them."""


def plan_check(
    before: CheckpointSource,
    after: CheckpointSource | None,
    questions: str,
    settings: Settings,
    notify: Callable[[str], None],
) -> Plan:
    """Return the plan of measuring a pair; without ``after`` that of a checkpoint and itself.

    Args:
        before: the checkpoint that training started from.
        after: the checkpoint that training ended with.
        questions: the name of a question set, or a file.
        settings: the settings of the run.
        notify: called with one line of text if a context is too short for answers as long as the set allows.

    Raises:
        RLCircuitsError: as :func:`~rlcircuits.release.plan.make_plan` does.
    """
    other = before if after is None else after
    pair = Pair(
        name="check",
        before=before.path,
        after=other.path,
        revision_before=before.revision,
        revision_after=other.revision,
        dtype=before.dtype,
        device_map=before.device_map,
        profile=_PROFILE,
        questions=asked_questions(questions),
    )
    settings = replace(settings, measure_unchanged=True, trust_remote_code=before.trust_remote_code)
    try:
        return make_plan(PairsFile((pair,)), settings, notify=lambda line: notify(line.removeprefix("check: ")))
    except RLCircuitsError as error:
        raise RLCircuitsError(str(error).removeprefix("check: ")) from None


def with_speed(plan: Plan, checkpoint: Checkpoint, settings: Settings) -> Plan:
    """Return a plan with the tokens a second that this checkpoint generates and scores on this machine.

    A few short answers are timed. Larger batches are faster, so that the times of the plan remain upper bounds. The
    speed of generating is left out if the engine is not transformers, or if the checkpoint has no tokenizer.
    """
    room = (checkpoint.context_length or _PROMPT + _ANSWER) - 1
    answer = max(1, min(_ANSWER, room // 2))
    prompt = max(1, min(_PROMPT, room - answer))
    ids = torch.randint(
        checkpoint.parts.vocabulary, (_SEQUENCES, prompt + answer), generator=torch.Generator().manual_seed(0)
    ).tolist()
    sequences = [AnswerSequence(tuple(row[:prompt]), tuple(row[prompt:])) for row in ids]

    def score() -> int:
        attribute(checkpoint, sequences, settings.granularity, recompute=settings.recompute)
        return sum(sequence.input_length for sequence in sequences)

    def generate() -> int:
        engine = open_engine(TRANSFORMERS, checkpoint)
        sampling = Sampling(temperature=0.0, max_new_tokens=answer)
        found = engine.complete([sequence.prompt_ids for sequence in sequences], sampling, seed=0)
        return sum(len(one.ids) for one in found)

    answers = _tokens_per_second(generate) if settings.engine == TRANSFORMERS else None
    return replace(plan, answers_per_second=answers, scores_per_second=_tokens_per_second(score))


def _tokens_per_second(run: Callable[[], int]) -> float | None:
    """Return the throughput of the second run of two; the first compiles kernels and allocates memory."""
    try:
        run()
        started = time.perf_counter()
        tokens = run()
    except RLCircuitsError:
        return None
    return tokens / max(time.perf_counter() - started, 1e-9)
