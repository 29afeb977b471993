"""What measuring one pair takes of each model: answers to generate, and answers to score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rlcircuits.checkpoints.noise import NoisedSource
from rlcircuits.common import defaults
from rlcircuits.common.choices import OPENAI
from rlcircuits.models.tensor_groups import Group
from rlcircuits.release.answering import TRANSFORMERS
from rlcircuits.release.counterfactuals import has_counterfactuals
from rlcircuits.release.gate_circuits import ESTIMATED_EDGES, MOST_ESTIMATED, MOST_JUDGED
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.plan_store import KnownAnswers
from rlcircuits.release.scoring_passes import passes

Part = Literal[
    "before",
    "after",
    "greedy answers",
    "reference",
    "noise draw",
    "noise on a group",
    "supervised control",
    "circuits",
]

PARTS: tuple[Part, ...] = get_args(Part)

GREEDY: Literal["greedy answers"] = "greedy answers"
"""The part of the answers at temperature 0, which are reported beside the sampled ones."""


@dataclass(frozen=True)
class ModelWork:
    """What one model does for a pair."""

    part: Part
    model: str
    """Name of the model."""
    key: tuple[object, ...]
    """Whose answers to what; pairs that share it share its answers."""
    engine: str
    """Name of the engine that generates its answers."""
    answers: int
    """Answers that it gives; 0 if it is only scored, or its answers are recorded."""
    prompt_tokens: int | None
    """Tokens of the prompts of these answers; None if the tokenizer cannot be loaded."""
    answer_tokens: int
    """Most tokens of these answers."""
    scored: int
    """Most answers that it is scored on."""
    scored_tokens: int | None
    """Most tokens that its scoring reads, each as often as there are forwards and backwards; None if the tokenizer
    cannot be loaded."""
    stored: int = 0
    """Answers in the store."""
    passes: float = 1
    """Forwards and backwards that scoring one answer takes."""

    @property
    def tokens_left(self) -> int:
        """Return the most tokens that are left to generate."""
        return self.answer_tokens * (self.answers - self.stored) // max(self.answers, 1)


@dataclass(frozen=True)
class Cost:
    """What a number of models take together. A sum is None where a tokenizer cannot be loaded."""

    models: int
    answers: int
    stored: int
    """Answers that are in the store already."""
    tokens_left: int
    """Most answer tokens that are left to generate."""
    scored: int
    """Most answers that are scored."""
    scored_tokens: int | None

    @classmethod
    def of(cls, works: Iterable[ModelWork]) -> Cost:
        """Return what these models take; answers that several pairs share count once."""
        works = list(works)
        distinct = {work.key: work for work in works if work.answers}.values()
        tokens = [work.scored_tokens for work in works]
        return cls(
            models=len({work.key for work in works}),
            answers=sum(work.answers for work in distinct),
            stored=sum(work.stored for work in distinct),
            tokens_left=sum(work.tokens_left for work in distinct),
            scored=sum(work.scored for work in works),
            scored_tokens=None if None in tokens else sum(each or 0 for each in tokens),
        )


def pair_work(measurement: Measurement, prompts: Sequence[int], groups: Sequence[Group]) -> tuple[ModelWork, ...]:
    """Return what each model does for a pair, in the order of the run.

    Args:
        measurement: what is planned, with the longest answer filled in.
        prompts: the number of tokens of each prompt; empty if the tokenizer cannot be loaded.
        groups: the groups of tensors that the model has.
    """
    settings, pair, questions = measurement.settings, measurement.pair, measurement.questions
    before, after = measurement.sources.values()
    reference = pair.reference_source(*settings.loading)
    longest, n = settings.sampling.max_new_tokens, settings.sampling.n
    assert longest is not None, "make_plan has chosen it"
    asked = (questions.name, questions.split, len(questions), repr(settings.prompting), pair.dtype or settings.dtype)
    compared = len(questions) if settings.k is None else min(settings.k, len(questions))
    a_question = 1 if settings.score_on == "gold" else n
    tokens_a_row = None
    if prompts:
        t_cut = max(math.floor(settings.alpha * longest), 1)
        tokens_a_row = math.ceil(sum(prompts) / len(prompts)) + t_cut - 1

    def work(part: Part, model: str, *, each: int = n, scored: int = compared * a_question, of: str = "") -> ModelWork:
        # A circuit is run, and its edges are found by plain gradients.
        times = 1 if part == "circuits" else passes(settings, has_counterfactuals(measurement))
        if part in ("before", "after") and settings.positions != defaults.POSITIONS:
            times *= 2  # once more, by span
        without_server = settings.engine == OPENAI and part in ("noise draw", "reference")
        return ModelWork(
            part=part,
            model=model,
            key=(model, of, *asked),
            engine=TRANSFORMERS if without_server else settings.engine,
            answers=len(questions) * each,
            prompt_tokens=(each * sum(prompts) if prompts else None) if each else 0,
            answer_tokens=len(questions) * each * longest,
            scored=scored,
            passes=times,
            scored_tokens=0
            if not scored
            else None
            if tokens_a_row is None
            else math.ceil(scored * tokens_a_row * times),
        )

    recorded = measurement.recorded
    found = [
        work("before", before.name, each=n if recorded["before"] is None else 0),
        work("after", after.name, each=n if recorded["after"] is None else 0),
    ]
    if settings.greedy and settings.sampling.temperature != 0:
        found += [work(GREEDY, model.name, each=1, scored=0, of=GREEDY) for model in (before, after)]
    if reference is not None:
        found.append(work("reference", reference.name, scored=0))
    answering = n if settings.noise_answers == "own" else 0
    for draw in range(settings.noise_draws):
        name = NoisedSource(before, after, draw).name
        found.append(work("noise draw", name, each=answering, of=after.name))
    for group in groups if settings.noise_groups and settings.noise_draws else ():
        name = NoisedSource(before, after, 0, group).name
        found.append(work("noise on a group", name, each=0, of=after.name))
    if (control := measurement.control) is not None:
        # A pair of its own with before, whose answers are there, and all of whose questions are compared.
        found.append(work("supervised control", control.name, scored=2 * len(questions) * a_question))
    if pair.circuits is not None:
        # Every answer once for each edge that is removed, and in after once for each of four circuits and once in full.
        judged = min(compared // 2, MOST_JUDGED)
        alone = 2 * ESTIMATED_EDGES * min(judged, MOST_ESTIMATED)
        # For resample, half of the questions are scored anew, by patching.
        patched = passes(measurement.settings, counterfactuals=True)
        found_on = round(patched * ((compared + 1) // 2)) if pair.circuits.ablation == "resample" else 0
        found.append(work("circuits", before.name, each=0, scored=alone + found_on))
        found.append(work("circuits", after.name, each=0, scored=alone + found_on + 5 * judged))
    return tuple(found)


def with_stored(works: Iterable[ModelWork], known: Mapping[tuple[object, ...], KnownAnswers]) -> tuple[ModelWork, ...]:
    """Return the work with the answers, by its key, that the store has."""
    return tuple(
        replace(work, stored=len(known[work.key].items)) if work.answers and work.key in known else work
        for work in works
    )


def left_to_do(works: Iterable[ModelWork]) -> list[ModelWork]:
    """Return the work of which something is left: not that of a reference whose answers are all in the store."""
    return [work for work in works if work.scored or work.stored < work.answers]
