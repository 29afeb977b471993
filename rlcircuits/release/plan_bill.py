"""What a planned run costs on several workers: the time of all together, and until the last one is done.

The run is parted as :mod:`rlcircuits.release.stages` parts it: answers first; then scores and noise draws, once both
models of the pair have answered; then what runs circuits. A worker does one of these at a time.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from rlcircuits.release.plan import PairPlan, Plan
from rlcircuits.release.plan_work import Cost, ModelWork, left_to_do
from rlcircuits.release.schedule import Task, longest_path, wall_seconds

__all__ = ["Bill", "make_bill", "plan_tasks"]

_COMPARED = ("before", "after")
_ANSWERED_FIRST = (*_COMPARED, "greedy answers", "reference")

_Stage = tuple[tuple[object, ...], list[ModelWork], tuple[tuple[object, ...], ...]]
"""A stage's key, what is done in it, and the keys of the stages that it waits for."""


@dataclass(frozen=True)
class Bill:
    """What is left of a run on several workers. Times are at most, as answers are assumed to be as long as allowed."""

    workers: int
    seconds: float
    """Of all workers' work together."""
    wall_seconds: float
    """Until the last worker is done."""
    longest_path: float
    """Seconds of the longest chain of stages, below which workers only come by sharing the batches of one stage."""
    weight_bytes: int | None
    """Of the largest model's weights; None if a size is not known."""
    cache_bytes: int | None
    """Of the largest key-value cache while answering; None if a size is not known."""

    @property
    def speedup(self) -> float:
        """How many times faster than one worker."""
        return self.seconds / self.wall_seconds if self.wall_seconds else 1.0


def make_bill(plan: Plan, workers: int) -> Bill | None:
    """Return the bill of what is left of a run; None if the store of the output folder has no throughput yet."""
    tasks = plan_tasks(plan)
    if tasks is None:
        return None
    weights, caches = ([getattr(model, name) for model in plan.models] for name in ("weight_bytes", "cache_bytes"))
    return Bill(
        workers,
        sum(task.seconds for task in tasks),
        wall_seconds(tasks, workers),
        longest_path(tasks),
        None if None in weights else max(weights, default=None),
        None if None in caches else max(caches, default=None),
    )


def plan_tasks(plan: Plan) -> list[Task] | None:
    """Return what is left to do as tasks; None if a throughput that they need is not known.

    Answers that several pairs share are one task. That several workers may share a stage's batches is not counted.
    """
    tasks: dict[Hashable, Task] = {}
    for pair in plan.pairs:
        for key, works, waits_for in [] if pair.measured else _stages(pair):
            seconds = plan.seconds_for(Cost.of(works))
            if seconds is None:
                return None
            tasks.setdefault(key, Task(key, seconds, waits_for))
    return list(tasks.values())


def _stages(pair: PairPlan) -> list[_Stage]:
    """Return what is left of a pair: its answers, then what waits for them, then its circuits."""
    works = left_to_do(pair.work)
    first: list[_Stage] = [
        (("answers", work.key), [replace(work, scored=0, scored_tokens=0)], ())
        for work in works
        if work.answers and work.part in _ANSWERED_FIRST
    ]
    answered = tuple(("answers", work.key) for work in works if work.answers and work.part in _COMPARED)
    later: list[_Stage] = [
        (("scores", pair.name, work.part), [replace(work, answers=0, answer_tokens=0, stored=0)], answered)
        for work in works
        if work.scored and work.part in _COMPARED
    ]
    later += [
        ((work.part, pair.name, place), [work], answered)
        for place, work in enumerate(works)
        if work.part in ("noise draw", "supervised control", "noise on a group")
    ]
    everything = tuple(key for key, _, _ in (*first, *later))
    circuits: list[_Stage] = [
        (("circuits", pair.name, place), [work], everything)
        for place, work in enumerate(works)
        if work.part == "circuits"
    ]
    return [*first, *later, *circuits]
