"""Test the length of a schedule against its bounds and against hand-made cases."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.release.schedule import Task, longest_path, wall_seconds


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    tasks: list[Task] = []
    for place in range(draw(st.integers(1, 12))):
        before = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        tasks.append(Task(place, float(draw(st.integers(0, 20))), tuple(sorted(before))))
    return tasks


def chain(tasks: list[Task]) -> float:
    """Return the longest chain by its definition: over every task, its own seconds and the longest before it."""
    ends: dict[object, float] = {}
    for task in tasks:
        ends[task.key] = task.seconds + max((ends[key] for key in task.waits_for), default=0.0)
    return max(ends.values())


@given(task_lists(), st.integers(1, 6))
def test_a_schedule_lies_within_grahams_bounds(tasks: list[Task], workers: int) -> None:
    total, path = sum(task.seconds for task in tasks), chain(tasks)
    wall = wall_seconds(tasks, workers)
    assert longest_path(tasks) == path
    assert max(path, total / workers) <= wall + 1e-9
    assert wall <= total / workers + (1 - 1 / workers) * path + 1e-9


@given(task_lists())
def test_one_worker_does_everything_and_enough_workers_the_longest_path(tasks: list[Task]) -> None:
    assert wall_seconds(tasks, 1) == sum(task.seconds for task in tasks)
    assert wall_seconds(tasks, len(tasks)) == chain(tasks)


def test_the_longest_chain_goes_first() -> None:
    tasks = [Task("a", 1.0), Task("b", 1.0), Task("long", 3.0), Task("last", 2.0, ("long",))]
    assert wall_seconds(tasks, 2) == 5.0


def test_nothing_to_do() -> None:
    assert wall_seconds([], 3) == longest_path([]) == 0.0
