"""What measuring the pairs of a file would take, found out without loading any weights.

Questions and prompts are made as the run would make them, so tokens of prompts are exact. Answers are counted at
their longest, so everything that depends on them is an upper bound. What is in the store already is told by model,
question set and settings: weights are not read, so that a checkpoint changed since is only noticed by the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from rlcircuits.answers.answer_file import Header, parse_header
from rlcircuits.answers.max_new_tokens import choose_max_new_tokens
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.pairs import STORE, Pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan_models import ModelPlan, PlannedModel
from rlcircuits.release.throughput import tokens_per_second

if TYPE_CHECKING:
    from rlcircuits.release.settings import Settings


@dataclass(frozen=True)
class Answering:
    """A model's answers to a question set: those to make, at their longest, and those that are in the store."""

    model: str
    asked: int
    """Questions."""
    n: int
    """Answers to each."""
    prompt_tokens: int | None
    answer_tokens: int
    stored: int
    """Answers."""

    @property
    def answers(self) -> int:
        """Answers in all."""
        return self.asked * self.n

    @property
    def tokens_left(self) -> int:
        """Most tokens yet to be written."""
        return self.answer_tokens * (self.answers - self.stored) // max(self.answers, 1)


@dataclass(frozen=True)
class PairPlan:
    """What a pair would do."""

    name: str
    questions: str
    answering: tuple[Answering, ...]
    """Before, after, and each noise draw; without those that are recorded."""
    scored_tokens: int | None
    """Most tokens read by attributions, of all models together."""
    measured: bool
    """There is a comparison with these settings in the output folder."""


@dataclass(frozen=True)
class Plan:
    """What a pairs file would do."""

    pairs: tuple[PairPlan, ...]
    models: tuple[ModelPlan, ...]
    answer_tokens: int
    """Most tokens yet to be written; answers that several pairs share count once."""
    scored_tokens: int | None
    seconds: float | None
    """None where no pace is known yet, or the prompts could not be made."""


def make_plan(
    file: PairsFile,
    settings: Settings,
    output: str | Path | None = None,
    notify: Callable[[str], None] | None = None,
) -> Plan:
    """Find out what measuring the pairs of `file` with `settings` takes; `output` is the run's output folder.

    `notify` is told in one line of answers that a context is too short for.

    Raises RLCircuitsError for questions that cannot be had, and for prompts that leave no room for answers. A
    checkpoint that cannot be had is said in its line.
    """
    store = None if output is None else Path(output) / STORE
    kept = list(_headers(store)) if store else []
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
        plan = _pair(pair, replace(settings, sampling=sampling), questions, list(map(len, prompts)), kept, output)
        pairs.append(plan)
        for answering in plan.answering:
            made[answering.model, plan.questions] = answering.tokens_left
    answer_tokens = sum(made.values())
    scored = [plan.scored_tokens for plan in pairs if not plan.measured]
    scored_tokens = None if None in scored else sum(tokens or 0 for tokens in scored)
    seconds = _seconds(store, answer_tokens, scored_tokens)
    return Plan(tuple(pairs), tuple(models.values()), answer_tokens, scored_tokens, seconds)


def show_plan(plan: Plan) -> str:
    """Write a plan as tables."""
    pairs = [
        [
            pair.name,
            pair.questions,
            _asked(pair.answering[0]) if pair.answering else "recorded",
            len(pair.answering),
            _count(pair.answering[0].prompt_tokens) if pair.answering else "",
            _count(sum(answering.answer_tokens for answering in pair.answering)),
            _count(pair.scored_tokens),
            "measured" if pair.measured else _stored(pair),
        ]
        for pair in plan.pairs
    ]
    headers = (
        "pair",
        "questions",
        "asked",
        "of models",
        "prompt tokens",
        "answer tokens ≤",
        "scored tokens ≤",
        "there already",
    )
    models = [
        [
            model.name,
            _count(model.parameters),
            _bytes(model.weight_bytes),
            _bytes(model.cache_bytes),
            model.problem or "",
        ]
        for model in plan.models
    ]
    wait = "unknown until the first answers" if plan.seconds is None else f"at most {_duration(plan.seconds)}"
    lines = [
        tabulate(
            pairs, headers, disable_numparse=True, colalign=_align(headers, ("pair", "questions", "there already"))
        ),
        "",
        tabulate(
            models,
            ("model", "parameters", "weights", "cache while answering", ""),
            disable_numparse=True,
            colalign=("left", "right", "right", "right", "left"),
        ),
        "",
        "One model is loaded at a time, and for the noise control after's weights are on the CPU beside it. Attribution"
        " fits its batches to the memory that is left.",
        f"To do: {_count(plan.answer_tokens)} answer tokens at most, {_count(plan.scored_tokens)} tokens to score;"
        f" time: {wait}.",
    ]
    return "\n".join(lines)


def _pair(
    pair: Pair,
    settings: Settings,
    questions: QuestionSet,
    prompts: list[int],
    kept: list[tuple[Header, int]],
    output: str | Path | None,
) -> PairPlan:
    before, after = pair.sources(settings.device, settings.dtype, settings.trust_remote_code)
    answering_models = [] if pair.recorded_before else [before.name]
    answering_models += [] if pair.recorded_after else [after.name]
    answering_models += [NoisedSource(before, after, draw).name for draw in range(settings.noise_draws)]
    longest, n = settings.sampling.max_new_tokens, settings.sampling.n
    assert longest is not None, "the pair's own length has been found out"
    answering = tuple(
        Answering(
            model,
            len(questions),
            n,
            n * sum(prompts) if prompts else None,
            n * len(questions) * longest,
            _already(kept, model, questions, pair, settings),
        )
        for model in answering_models
    )
    compared = min(settings.k, len(questions))
    scored = None
    if prompts:
        t_cut = max(math.floor(settings.alpha * longest), 1)
        mean = math.ceil(sum(prompts) / len(prompts))
        rows = compared * (1 if settings.score_on == "gold" else n)
        scored = (2 + settings.noise_draws) * rows * (mean + t_cut - 1)
    measured = output is not None and _measured(Path(output) / pair.name, settings, len(questions))
    return PairPlan(pair.name, questions.name, answering, scored, measured)


def _sampling(
    pair: Pair,
    settings: Settings,
    questions: QuestionSet,
    planned: list[PlannedModel],
    prompts: list[tuple[int, ...]],
    notify: Callable[[str], None] | None,
) -> Sampling:
    """The sampling with the length of answers that the run would find; `prompts` are those of the first model."""
    if settings.sampling.max_new_tokens is not None:
        return settings.sampling
    others = [model.prompts(pair.prompting or settings.prompting, questions) for model in planned[1:]]
    rooms = [model.room(of_it) for model, of_it in zip(planned, [prompts, *others], strict=True)]
    return choose_max_new_tokens(settings.sampling, questions, [room for room in rooms if room is not None], notify)


def _measured(folder: Path, settings: Settings, asked: int) -> bool:
    """Whether there is a comparison with these settings; the run looks at the weights too."""
    try:
        found = load_comparison(folder)
    except RLCircuitsError:
        return False
    ours = (settings.alpha, settings.balance, settings.score_on, settings.granularity, settings.sampling.table())
    theirs = (found.alpha, found.balance, found.score_on, found.granularity, found.sampling)
    return ours == theirs and len(found.controls) == settings.noise_draws and found.accuracy.asked == asked


def _headers(store: Path) -> Iterator[tuple[Header, int]]:
    """The header and the number of answers of every file of answers in the store."""
    for path in sorted(store.glob("*.jsonl")):
        lines = path.read_bytes().split(b"\n")[:-1]
        try:
            yield parse_header(path, lines[0]), len(lines) - 1
        except (IndexError, RLCircuitsError):
            continue


def _already(kept: list[tuple[Header, int]], model: str, questions: QuestionSet, pair: Pair, settings: Settings) -> int:
    prompting = (pair.prompting or settings.prompting).model_dump()
    answers = len(questions) * settings.sampling.n
    for header, count in kept:
        same = (header.model, header.question_set, header.split, header.count, header.sampling, header.batch_size) == (
            model, questions.name, questions.split, answers, settings.sampling, settings.batch_size,
        )  # fmt: skip
        used = header.prompting.model_dump() if header.prompting else {}
        if same and all(used.get(name) == value for name, value in prompting.items()):
            return min(count, answers)
    return 0


def _seconds(store: Path | None, answer_tokens: int, scored_tokens: int | None) -> float | None:
    if store is None or scored_tokens is None:
        return None
    answers, scores = tokens_per_second(store, "answers"), tokens_per_second(store, "scores")
    if (answer_tokens and answers is None) or (scored_tokens and scores is None):
        return None
    return answer_tokens / (answers or 1) + scored_tokens / (scores or 1)


def _stored(pair: PairPlan) -> str:
    stored, answers = (sum(getattr(a, name) for a in pair.answering) for name in ("stored", "answers"))
    return f"{stored:,} of {answers:,} answers" if stored else "nothing"


def _asked(answering: Answering) -> str:
    return str(answering.asked) if answering.n == 1 else f"{answering.asked} × {answering.n}"


def _align(headers: tuple[str, ...], left: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("left" if header in left else "right" for header in headers)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _bytes(number: int | None) -> str:
    return "unknown" if number is None else f"{number / 1e9:,.2f} GB"


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
