"""One pair from two checkpoints to a comparison: answer, pair, attribute, compare.

Only one model is in memory at a time. The pairing needs both models' answers, so the one that answered first
is loaded a second time to be scored:

    before: load, answer, free
    after:  load, answer; pair the answers; attribute, free
    before: load, attribute, free
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rlcircuits import pairing
from rlcircuits.answers import Answers, Sampling, answer_questions
from rlcircuits.attribution import EdgeScores, attribute
from rlcircuits.checkpoint import Checkpoint
from rlcircuits.comparison import Comparison, compare
from rlcircuits.graph import Granularity, check_granularity
from rlcircuits.pairs import Pair
from rlcircuits.questions import load_questions
from rlcircuits.report.json import save_comparison
from rlcircuits.sequences import AnswerSequence

Notify = Callable[[str], None]

MAX_NEW_TOKENS = 32
"""Longest answer by default: what a question of the arithmetic set needs, with room to spare."""


@dataclass(frozen=True)
class Settings:
    """How a pair is measured. The same for every pair of a run."""

    k: int = 200
    """Questions compared, sampled from those that pass the protocol."""
    alpha: float = pairing.DEFAULT_ALPHA
    """Share of the reference answer length that is scored."""
    balance: float = pairing.DEFAULT_BALANCE
    """How far a question's two answer lengths may differ, as a share of their mean."""
    seed: int = pairing.DEFAULT_SEED
    """Of the sample of K."""
    question_count: int = 400
    """Questions asked."""
    split: str = "test"
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=MAX_NEW_TOKENS))
    """How answers are drawn, the same for both models."""
    granularity: Granularity = "sublayer"
    device: str | None = None
    """None: the best there is."""
    dtype: str | None = None
    """None: the checkpoint's own."""
    batch_tokens: int | None = None
    """Token budget of an attribution batch; None leaves it to :func:`~rlcircuits.attribution.attribute`."""

    def __post_init__(self) -> None:
        check_granularity(self.granularity)
        pairing.check_options(self.alpha, self.k, self.balance)


def run_pair(
    pair: Pair,
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    notify: Notify | None = None,
    progress: bool = False,
) -> Comparison:
    """Measure one pair. `notify` is told each stage in one line; `progress` shows bars within a stage.

    With `output`, the folder ``output/<pair name>`` gets both models' answers (JSON lines) and scores
    (safetensors) and ``comparison.json``, each as soon as it is there.

    Raises RLCircuitsError for anything wrong with the checkpoints, the questions or the options, before/after
    with different graphs and too few questions left included.
    """
    settings = settings or Settings()
    tell = notify or (lambda _line: None)
    folder = None if output is None else Path(output) / pair.name
    questions = load_questions(pair.questions, split=settings.split, count=settings.question_count)

    def load(path: str) -> Checkpoint:
        return Checkpoint.load(path, device=settings.device, dtype=settings.dtype)

    def answer(checkpoint: Checkpoint, side: str) -> Answers:
        tell(f"{pair.name}: {side} answers {len(questions)} questions of {questions.name}")
        answers = answer_questions(checkpoint, questions, settings.sampling, progress=progress)
        if folder:
            answers.save(folder / f"{side}.answers.jsonl")
        return answers

    def score(checkpoint: Checkpoint, side: str, sequences: Sequence[AnswerSequence]) -> EdgeScores:
        tell(f"{pair.name}: {side} is attributed on {len(sequences)} answers")
        scores = attribute(
            checkpoint, sequences, settings.granularity, batch_tokens=settings.batch_tokens, progress=progress
        )
        if folder:
            scores.save(folder / f"{side}.scores.safetensors")
        return scores

    # A checkpoint is freed when its last name is gone, so none may outlive its stage.
    before_answers = answer(load(pair.before), "before")
    _free_memory()
    checkpoint = load(pair.after)
    after_answers = answer(checkpoint, "after")
    paired = pairing.pair(
        before_answers,
        after_answers,
        alpha=settings.alpha,
        k=settings.k,
        balance=settings.balance,
        seed=settings.seed,
    )
    tell(f"{pair.name}: {pairing.show_funnel(paired.funnel)}; the first {paired.t_cut} tokens are scored")
    after_scores = score(checkpoint, "after", paired.after)
    del checkpoint
    _free_memory()
    before_scores = score(load(pair.before), "before", paired.before)
    _free_memory()

    comparison = compare(
        before_scores,
        after_scores,
        paired,
        before_answers,
        after_answers,
        name=pair.name,
        algorithm=pair.algorithm,
    )
    if folder:
        save_comparison(comparison, folder)
    return comparison


def _free_memory() -> None:
    # A model's modules refer to one another, so only the collector frees them, and only then can CUDA.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
