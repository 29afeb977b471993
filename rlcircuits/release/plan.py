"""Plan the run of a pairs file: estimate its tokens, memory and time without loading any weights.

Questions and prompts are made as the run would make them, so prompt tokens are exact. Answers are assumed to be as long
as allowed, so everything that depends on their length is an upper bound. What the store already holds is recognized by
model name, question set and settings. Weights are not read, so only the run notices that a checkpoint has changed.
Recorded answers are read and graded, so that a file that cannot be used is told before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rlcircuits.answers.max_new_tokens import choose_max_new_tokens
from rlcircuits.answers.recorded import Side
from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.files import STORE
from rlcircuits.common.logs import log_stage
from rlcircuits.common.reprs import format_count
from rlcircuits.questions.question_set import QuestionSet
from rlcircuits.release.asking import load_asked
from rlcircuits.release.counterfactuals import check_counterfactuals
from rlcircuits.release.foils import check_foils
from rlcircuits.release.gate_circuits import check_circuits
from rlcircuits.release.greedy import check_greedy, greedy_sampling
from rlcircuits.release.measurement import Measurement
from rlcircuits.release.pair import Pair
from rlcircuits.release.pairs_file import PairsFile
from rlcircuits.release.plan_known import what_is_known
from rlcircuits.release.plan_models import ModelPlan, PlannedModel
from rlcircuits.release.plan_power import Detectable, detectable_changes
from rlcircuits.release.plan_signs import SignCost, sign_costs
from rlcircuits.release.plan_store import (
    KnownAnswers,
    StoredAnswers,
    check_output,
    earlier_comparison,
    find_answers,
    is_measured,
    read_recorded,
    stored_answers,
)
from rlcircuits.release.plan_work import GREEDY, Cost, ModelWork, left_to_do, pair_work, with_stored
from rlcircuits.release.servers import check_servers
from rlcircuits.release.throughput import Work, tokens_per_second

if TYPE_CHECKING:
    from rlcircuits.release.settings import Settings


@dataclass(frozen=True)
class PairPlan:
    """Estimate of what measuring one pair takes."""

    name: str
    questions: str
    """Name of the question set."""
    asked: int
    """Questions asked."""
    n: int
    """Answers to each."""
    work: tuple[ModelWork, ...]
    """What each model does, in the order of the run."""
    measured: bool
    """Whether the output folder holds a comparison with these settings, so that nothing is left to do."""
    detectable: Detectable
    """The smallest changes that the run detects."""
    signs: tuple[SignCost, ...] = ()
    """What the pair's vital signs take beside that."""
    problems: tuple[str, ...] = ()
    """What would stop the pair's run."""

    @property
    def answering(self) -> tuple[ModelWork, ...]:
        """Return the work of the models that generate answers."""
        return tuple(work for work in self.work if work.answers)

    @property
    def scored_tokens(self) -> int | None:
        """Return the most tokens that all models' scoring reads; None if the tokenizer cannot be loaded."""
        return Cost.of(self.work).scored_tokens


@dataclass(frozen=True)
class Plan:
    """Estimate of what measuring all pairs of a file takes."""

    pairs: tuple[PairPlan, ...]
    models: tuple[ModelPlan, ...]
    answers_per_second: float | None
    """Answer tokens a second in the last run; None if no throughput is known yet."""
    scores_per_second: float | None
    """Scored tokens a second."""
    noise_answers: str
    """Whose answers the noise draws are scored on: ``own`` or ``before``."""
    gates_signs: bool = False
    """Whether the file has a table ``[signs]``, so that the run measures signs too."""
    unplanned: Mapping[str, str] = field(default_factory=dict)
    """Why a pair of the file has no plan, by its name."""

    @property
    def left(self) -> tuple[ModelWork, ...]:
        """Return the work that is left to do, without the pairs that are measured."""
        return tuple(work for pair in self.pairs if not pair.measured for work in left_to_do(pair.work))

    @property
    def answer_tokens(self) -> int:
        """Return the most tokens that are left to generate; answers that several pairs share count once."""
        return Cost.of(self.left).tokens_left

    @property
    def scored_tokens(self) -> int | None:
        """Return the most tokens that are left to score; None if a tokenizer cannot be loaded."""
        return Cost.of(self.left).scored_tokens

    @property
    def seconds(self) -> float | None:
        """Return the longest duration; None if no throughput is known yet, or a tokenizer cannot be loaded."""
        return self.seconds_for(Cost.of(self.left))

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what would stop the run of a pair, each beginning with the pair's name."""
        of_planned = (f"{pair.name}: {problem}" for pair in self.pairs for problem in pair.problems)
        return (*of_planned, *(f"{name}: {problem}" for name, problem in self.unplanned.items()))

    def seconds_for(self, cost: Cost) -> float | None:
        """Return how long a cost takes at most; None if that is not known."""
        if cost.scored_tokens is None:
            return None
        if (cost.tokens_left and not self.answers_per_second) or (cost.scored_tokens and not self.scores_per_second):
            return None
        return cost.tokens_left / (self.answers_per_second or 1) + cost.scored_tokens / (self.scores_per_second or 1)


def make_plan(
    file: PairsFile,
    settings: Settings,
    output: str | Path | None = None,
    notify: Callable[[str], None] | None = None,
) -> Plan:
    """Plan the run of a pairs file.

    What would stop a pair (a checkpoint that cannot be loaded, a wrong file of recorded answers, questions that cannot
    be loaded or are too few) is in the plan and no error, so that a plan tells everything at once.

    Args:
        file: the pairs.
        settings: the settings of the run.
        output: the run's output folder.
        notify: called with one line of text if a context is too short for answers as long as the question set allows.

    Raises:
        RLCircuitsError: no pair can be planned, or the output is a file.
    """
    folder = check_output(output)
    store = None if folder is None else folder / STORE
    planner = _Planner(file, settings, folder, notify)
    pairs: list[PairPlan] = []
    unplanned: dict[str, str] = {}
    for pair in file.pairs:
        try:
            pairs.append(planner.plan(pair))
        except RLCircuitsError as error:
            unplanned[pair.name] = str(error)
    if not pairs:
        name, problem = next(iter(unplanned.items()))
        others = len(unplanned) - 1
        more = f"; {format_count(others, 'other pair')} cannot be planned either" if others else ""
        raise RLCircuitsError(f"{name}: {problem}{more}")

    def throughput(work: Work) -> float | None:
        return None if store is None else tokens_per_second(store, work)

    return Plan(
        tuple(pairs),
        tuple(planner.models.values()),
        throughput("answers"),
        throughput("scores"),
        settings.noise_answers,
        gates_signs=file.signs is not None,
        unplanned=unplanned,
    )


class _Planner:
    """Plans the pairs of a file one by one, and keeps what they share.

    Args:
        file: the pairs.
        settings: the settings of the run.
        folder: the run's output folder.
        notify: as for :func:`make_plan`.
    """

    def __init__(
        self, file: PairsFile, settings: Settings, folder: Path | None, notify: Callable[[str], None] | None
    ) -> None:
        self._settings, self._folder, self._notify = settings, folder, notify
        self._beside = (Path() if file.path is None else file.path.parent).absolute()
        self._store = None if folder is None else folder / STORE
        self._stored = stored_answers(self._store)
        self.models: dict[tuple[str, str | None], ModelPlan] = {}
        """By their names and dtypes."""

    def plan(self, pair: Pair) -> PairPlan:
        """Return the plan of a pair, and plan its models.

        Raises:
            RLCircuitsError: its questions cannot be loaded, or lack the counterfactuals that the settings' method
                needs; or prompts leave no room for answers.
        """
        settings = self._settings
        questions = load_asked(pair.questions, settings)
        check_counterfactuals(questions, settings.method)
        before, after = (PlannedModel(source, self._beside) for source in pair.sources(*settings.loading))
        named = (pair.reference_source(*settings.loading), pair.control_source(*settings.loading))
        others = [PlannedModel(source, self._beside) for source in named if source is not None]
        prompting = pair.prompting or settings.prompting
        prompts = before.prompts(prompting, questions)
        sampling = _sampling(pair, settings, questions, [before, after], prompts, self._notify)
        longest = max(map(len, prompts), default=0) + (sampling.max_new_tokens or 0)
        sizes = [self._weight_bytes(model, settings.batch_size * longest) for model in (before, after, *others)][:2]
        measurement = Measurement(
            pair,
            replace(settings, prompting=prompting, sampling=sampling),
            {"before": before.source, "after": after.source},
            questions,
            folder=None if self._folder is None else self._folder / pair.name,
            store=self._store,
            notify=self._notify or log_stage,
            progress=False,
        )
        lengths = list(map(len, prompts))
        planned = _pair(measurement, {"before": before, "after": after}, lengths, self._stored)
        weight_bytes = None if None in sizes else sum(size or 0 for size in sizes)
        return replace(planned, signs=sign_costs(measurement, lengths, weight_bytes))

    def _weight_bytes(self, model: PlannedModel, cached_tokens: int) -> int | None:
        key = (model.source.name, model.source.dtype)
        if key not in self.models:
            self.models[key] = model.plan(cached_tokens)
        return self.models[key].weight_bytes


def _pair(
    measurement: Measurement,
    models: Mapping[Side, PlannedModel],
    prompts: list[int],
    stored: Sequence[StoredAnswers],
) -> PairPlan:
    """Plan one pair.

    Args:
        measurement: what is planned, with the longest answer filled in.
        models: before and after.
        prompts: the number of tokens of each prompt; empty if the tokenizer cannot be loaded.
        stored: every answer file in the store.
    """
    settings, questions = measurement.settings, measurement.questions
    problems: list[str] = []
    work = pair_work(measurement, prompts, models["before"].groups())
    in_store: dict[tuple[object, ...], KnownAnswers] = {}
    for each in work:
        sampling = greedy_sampling(settings.sampling) if each.part == GREEDY else settings.sampling
        found = find_answers(stored, each.model, measurement, sampling, each.engine) if each.answers else None
        if found is None or each.key in in_store:
            continue
        try:
            in_store[each.key] = KnownAnswers(found.items, each.answers, "answers in the store")
        except RLCircuitsError as error:
            problems.append(f"{error}; move the file away, and these answers are generated again")
    known: dict[Side, KnownAnswers] = {
        each.part: in_store[each.key]
        for each in work
        if (each.part == "before" or each.part == "after") and each.answers and each.key in in_store
    }
    if prompts:
        try:
            known |= read_recorded(measurement, models)
        except RLCircuitsError as error:
            problems.append(str(error))
    reference = next((in_store.get(each.key) for each in work if each.part == "reference"), None)
    earlier = earlier_comparison(measurement)
    detectable = detectable_changes(measurement, what_is_known(measurement, known, reference, earlier))
    if measurement.sources["before"] == measurement.sources["after"] and not settings.measure_unchanged:
        problems.append(
            "before and after are one checkpoint, so there is no update to measure; name another checkpoint, or "
            "measure it all the same with measure_unchanged = true"
        )
    checks = [partial(check, measurement) for check in (check_greedy, check_foils, check_circuits)]
    checks.append(partial(check_servers, measurement.pair, settings))
    checks.append(partial(models["before"].check_nodes, settings.granularity))
    for check in checks:
        try:
            check()
        except RLCircuitsError as error:
            problems.append(str(error))
    if detectable.surely_too_few:
        problems.append(
            f"{_left(detectable)}, and min_questions is {settings.min_questions}, so that the pair cannot be compared; "
            f"ask more (question_count), or lower min_questions"
        )
    return PairPlan(
        name=measurement.pair.name,
        questions=questions.name,
        asked=len(questions),
        n=settings.sampling.n,
        work=with_stored(work, in_store),
        measured=earlier is not None and is_measured(earlier, measurement),
        detectable=detectable,
        problems=tuple(problems),
    )


def _left(found: Detectable) -> str:
    if found.asked < found.min_questions:
        return f"{format_count(found.asked, 'question')} are asked"
    return f"{found.compared} of {format_count(found.asked, 'question')} are left to compare in the recorded answers"


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

    def with_name(line: str) -> None:
        if notify is not None:
            notify(f"{pair.name}: {line}")

    return choose_max_new_tokens(settings.sampling, questions, [room for room in rooms if room is not None], with_name)
