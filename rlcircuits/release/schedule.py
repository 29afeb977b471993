"""How long several workers take for tasks of which some wait for others.

The schedule is list scheduling (Graham, 1969): whenever a worker is free, it takes the task that is ready and has the
most work on the longest path behind it. Its length is at most the total divided by the workers, plus 1 − 1/workers of
the longest path, and no schedule is shorter than either of the two.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Task", "longest_path", "wall_seconds"]


@dataclass(frozen=True)
class Task:
    """Work that one worker does at a stretch."""

    key: Hashable
    seconds: float
    waits_for: tuple[Hashable, ...] = field(default=())
    """Keys of the tasks that must be done before; each stands earlier in the list of tasks."""


def wall_seconds(tasks: Sequence[Task], workers: int) -> float:
    """Return the seconds from the first task's start to the last one's end.

    Args:
        tasks: the tasks, each after those that it waits for.
        workers: how many tasks run at once.
    """
    behind = _seconds_behind(tasks)
    waiting = {task.key: len(set(task.waits_for)) for task in tasks}
    followers: dict[Hashable, list[Task]] = {task.key: [] for task in tasks}
    for task in tasks:
        for key in set(task.waits_for):
            followers[key].append(task)
    order = {task.key: place for place, task in enumerate(tasks)}

    def priority(task: Task) -> tuple[float, int, Task]:
        return (-behind[task.key], order[task.key], task)

    ready = [priority(task) for task in tasks if not waiting[task.key]]
    heapq.heapify(ready)
    running: list[tuple[float, int, Task]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, place, task = heapq.heappop(ready)
            heapq.heappush(running, (now + task.seconds, place, task))
        now, _, done = heapq.heappop(running)
        for task in followers[done.key]:
            waiting[task.key] -= 1
            if not waiting[task.key]:
                heapq.heappush(ready, priority(task))
    return now


def longest_path(tasks: Sequence[Task]) -> float:
    """Return the seconds of the longest chain of tasks that wait for one another: no number of workers is faster."""
    return max(_seconds_behind(tasks).values(), default=0.0)


def _seconds_behind(tasks: Sequence[Task]) -> Mapping[Hashable, float]:
    """Return for each task the seconds of the longest chain that begins with it."""
    behind = {task.key: task.seconds for task in tasks}
    seconds = dict(behind)
    for task in reversed(tasks):
        for key in task.waits_for:
            behind[key] = max(behind[key], seconds[key] + behind[task.key])
    return behind
