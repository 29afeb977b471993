"""Plan the run of a pairs file: estimate its tokens, memory and time without loading any weights.

Questions and prompts are made as the run would make them, so prompt tokens are exact. Answers are assumed to be as long
as allowed, so everything that depends on their length is an upper bound. What the store already holds is recognized by
model name, question set and settings. Weights are not read, so only the run notices that a checkpoint has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.answers.max_new_tokens import choose_max_new_tokens
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.pair import STORE, Pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan_models import ModelPlan, PlannedModel
from rlcircuits.release.plan_power import Detectable, detectable_changes
from rlcircuits.release.plan_store import StoredAnswers, find_answers, stored_answers
from rlcircuits.release.throughput import tokens_per_second

if TYPE_CHECKING:
    from rlcircuits.release.settings import Settings


@dataclass(frozen=True)
class Answering:
    """One model's answers to a question set: how many, how long at most, and how many the store has."""

    model: str
    asked: int
    """Questions asked."""
    n: int
    """Answers to each question."""
    prompt_tokens: int | None
    """Tokens of all prompts, n times each; None if the tokenizer cannot be loaded."""
    answer_tokens: int
    """Most tokens of all answers."""
    stored: int
    """Answers in the store."""

    @property
    def answers(self) -> int:
        """Return the number of answers in all."""
        return self.asked * self.n

    @property
    def tokens_left(self) -> int:
        """Return the most tokens that are left to generate."""
        return self.answer_tokens * (self.answers - self.stored) // max(self.answers, 1)


@dataclass(frozen=True)
class PairPlan:
    """Estimate of what measuring one pair takes."""

    name: str
    questions: str
    answering: tuple[Answering, ...]
    """Before, after and each noise draw, without models whose answers are recorded."""
    scored_tokens: int | None
    """Most tokens read by the attribution of all models; None if the tokenizer cannot be loaded."""
    measured: bool
    """Whether the output folder holds a comparison with these settings."""
    detectable: Detectable
    """The smallest changes that the run detects."""


@dataclass(frozen=True)
class Plan:
    """Estimate of what measuring all pairs of a file takes."""

    pairs: tuple[PairPlan, ...]
    models: tuple[ModelPlan, ...]
    answer_tokens: int
    """Most tokens that are left to generate; answers that several pairs share count once."""
    scored_tokens: int | None
    """Most tokens that are left to score; None if a tokenizer cannot be loaded."""
    seconds: float | None
    """Longest duration; None if no throughput is known yet, or a tokenizer cannot be loaded."""


def make_plan(
    file: PairsFile,
    settings: Settings,
    output: str | Path | None = None,
    notify: Callable[[str], None] | None = None,
) -> Plan:
    """Plan the run of a pairs file. A checkpoint that cannot be loaded is a line of the plan, not an error.

    Args:
        file: the pairs.
        settings: the settings of the run.
        output: the run's output folder.
        notify: called with one line of text if a context is too short for answers as long as the question set allows.

    Raises:
        RLCircuitsError: questions cannot be loaded, or prompts leave no room for answers.
    """
    store = None if output is None else Path(output) / STORE
    stored = stored_answers(store)
    models: dict[tuple[str, str | None], ModelPlan] = {}
    pairs: list[PairPlan] = []
    made: dict[tuple[str, str], int] = {}
    beside = Path() if file.path is None else file.path.parent
    for pair in file.pairs:
        asked = pair.questions
        questions = load_questions(asked, split=settings.split, count=asked.count or settings.question_count)
        sources = pair.sources(settings.device, settings.dtype, settings.trust_remote_code)
        planned = [PlannedModel(source, beside.absolute()) for source in sources]
        prompts = planned[0].prompts(pair.prompting or settings.prompting, questions)
        sampling = _sampling(pair, settings, questions, planned, prompts, notify)
        for model in planned:
            key = (model.source.name, model.source.dtype)
            if key not in models:
                longest = max(map(len, prompts), default=0) + (sampling.max_new_tokens or 0)
                models[key] = model.plan(settings.batch_size * longest)
        plan = _pair(pair, replace(settings, sampling=sampling), questions, list(map(len, prompts)), stored, output)
        pairs.append(plan)
        for answering in plan.answering:
            made[answering.model, plan.questions] = answering.tokens_left
    answer_tokens = sum(made.values())
    scored = [plan.scored_tokens for plan in pairs if not plan.measured]
    scored_tokens = None if None in scored else sum(tokens or 0 for tokens in scored)
    seconds = _seconds(store, answer_tokens, scored_tokens)
    return Plan(tuple(pairs), tuple(models.values()), answer_tokens, scored_tokens, seconds)


def _pair(
    pair: Pair,
    settings: Settings,
    questions: QuestionSet,
    prompts: list[int],
    stored: Sequence[StoredAnswers],
    output: str | Path | None,
) -> PairPlan:
    """Plan one pair.

    Args:
        pair: what is planned.
        settings: the settings of the run, with the longest answer filled in.
        questions: the pair's questions.
        prompts: the number of tokens of each prompt; empty if the tokenizer cannot be loaded.
        stored: every answer file in the store.
        output: the run's output folder.
    """
    before, after = pair.sources(settings.device, settings.dtype, settings.trust_remote_code)
    answering_models = [] if pair.recorded_before else [before.name]
    answering_models += [] if pair.recorded_after else [after.name]
    answering_models += [NoisedSource(before, after, draw).name for draw in range(settings.noise_draws)]
    longest, n = settings.sampling.max_new_tokens, settings.sampling.n
    assert longest is not None, "make_plan has chosen it"
    files = {model: find_answers(stored, model, questions, pair, settings) for model in set(answering_models)}
    answering = tuple(
        Answering(
            model,
            len(questions),
            n,
            n * sum(prompts) if prompts else None,
            n * len(questions) * longest,
            0 if (file := files[model]) is None else min(file.count, n * len(questions)),
        )
        for model in answering_models
    )
    compared = len(questions) if settings.k is None else min(settings.k, len(questions))
    scored = None
    if prompts:
        t_cut = max(math.floor(settings.alpha * longest), 1)
        mean = math.ceil(sum(prompts) / len(prompts))
        rows = compared * (1 if settings.score_on == "gold" else n)
        scored = (2 + settings.noise_draws) * rows * (mean + t_cut - 1)
    earlier = None if output is None else _earlier(Path(output) / pair.name, pair, questions)
    detectable = detectable_changes(
        len(questions),
        n,
        compared,
        files.get(before.name),
        files.get(after.name),
        earlier,
        independent=pair.recorded_before is not None or pair.recorded_after is not None,
    )
    measured = earlier is not None and _measured(earlier, settings, len(questions))
    return PairPlan(pair.name, questions.name, answering, scored, measured, detectable)


def _sampling(
    pair: Pair,
    settings: Settings,
    questions: QuestionSet,
    planned: list[PlannedModel],
    prompts: list[tuple[int, ...]],
    notify: Callable[[str], None] | None,
) -> Sampling:
    """Return the sampling with the longest answer that the run would choose.

    Args:
        pair: what is planned.
        settings: the settings of the run.
        questions: the pair's questions.
        planned: before and after.
        prompts: the prompts of before.
        notify: see :func:`make_plan`.
    """
    if settings.sampling.max_new_tokens is not None:
        return settings.sampling
    others = [model.prompts(pair.prompting or settings.prompting, questions) for model in planned[1:]]
    rooms = [model.room(of_it) for model, of_it in zip(planned, [prompts, *others], strict=True)]
    return choose_max_new_tokens(settings.sampling, questions, [room for room in rooms if room is not None], notify)


def _earlier(folder: Path, pair: Pair, questions: QuestionSet) -> Comparison | None:
    """Return the comparison of these two checkpoints on this question set that the folder holds, if it does."""
    try:
        found = load_comparison(folder)
    except RLCircuitsError:
        return None
    before, after = pair.sources()
    same = (found.before, found.after, found.questions, found.split)
    return found if same == (before.name, after.name, questions.name, questions.split) else None


def _measured(found: Comparison, settings: Settings, asked: int) -> bool:
    """Return whether a comparison has these settings. The run compares the weights as well."""
    ours = (settings.alpha, settings.balance, settings.score_on, settings.granularity, settings.sampling.table())
    theirs = (found.alpha, found.balance, found.score_on, found.granularity, found.sampling)
    return ours == theirs and len(found.controls) == settings.noise_draws and found.accuracy.asked == asked


def _seconds(store: Path | None, answer_tokens: int, scored_tokens: int | None) -> float | None:
    """Return how long so many tokens take, at the throughput that the store records."""
    if store is None or scored_tokens is None:
        return None
    answers, scores = tokens_per_second(store, "answers"), tokens_per_second(store, "scores")
    if (answer_tokens and answers is None) or (scored_tokens and scores is None):
        return None
    return answer_tokens / (answers or 1) + scored_tokens / (scores or 1)
