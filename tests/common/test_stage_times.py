"""Test the times of stages: every second counts once, for the innermost stage."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.common import stage_times
from rlcircuits.common.stage_times import STAGES, StageName, StageTime, current_times, record_stages, stage


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stage_times, "time", made)
    return made


_NAMED = st.sampled_from([name for name in STAGES if name != "rest"])
_TREES = st.recursive(
    st.tuples(_NAMED, st.integers(0, 9), st.just([])),
    lambda children: st.tuples(_NAMED, st.integers(0, 9), st.lists(children, max_size=3)),
    max_leaves=8,
)


@given(st.lists(_TREES, max_size=4))
def test_every_second_counts_once_for_the_innermost_stage(trees: list[tuple[StageName, int, list]]) -> None:
    expected: dict[StageName, list[float]] = {}
    clock = Clock()

    def run(tree: tuple[StageName, int, list], in_control: bool) -> None:
        name, own, children = tree
        in_control = in_control or name == "control"
        with stage(name):
            clock.now += own
            for child in children:
                run(child, in_control)
        seconds = expected.setdefault(name, [0.0, 0.0])
        seconds[0] += own
        seconds[1] += own if in_control else 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_times, "time", clock)
        with record_stages() as times:
            for tree in trees:
                run(tree, False)
                clock.now += 1
            assert times is not None
            found = {each.stage: [each.seconds, each.in_controls] for each in times.table()}
    expected["rest"] = [len(trees), 0.0]
    assert found == {name: seconds for name, seconds in expected.items() if seconds[0] > 0}


def test_a_snapshot_is_left_out(clock: Clock) -> None:
    with record_stages() as times:
        assert times is not None
        with stage("load"):
            clock.now += 3
        earlier = times.snapshot()
        with stage("load"):
            clock.now += 2
        assert times.table(earlier) == (StageTime("load", 2.0, 0.0),)


def test_a_stage_that_fails_ends_too(clock: Clock) -> None:
    @stage("answer")
    def fail() -> None:
        clock.now += 1
        raise ValueError("bad")

    with record_stages() as times:
        with pytest.raises(ValueError, match="bad"):
            fail()
        clock.now += 1
        assert times is not None
        assert times.table() == (StageTime("answer", 1.0, 0.0), StageTime("rest", 1.0, 0.0))


def test_a_function_of_another_thread_counts(clock: Clock) -> None:
    @stage("contract")
    def contract() -> None:
        clock.now += 4

    with record_stages() as times:
        with stage("attribute"):
            thread = threading.Thread(target=contract)
            thread.start()
            thread.join()
        assert times is not None
        assert times.table() == (StageTime("contract", 4.0, 0.0),)


def test_a_devices_work_counts_for_the_stage_that_asked_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device does what is queued while someone waits for it, as CUDA does."""
    queued: list[float] = []

    def wait() -> None:
        clock.now += sum(queued)
        queued.clear()

    monkeypatch.setattr(stage_times, "_wait_for_device", wait)
    with record_stages() as times:
        with stage("attribute"):
            queued.append(5.0)
            with stage("contract"):
                queued.append(2.0)
            queued.append(1.0)
        assert times is not None
        assert times.table() == (StageTime("attribute", 6.0, 0.0), StageTime("contract", 2.0, 0.0))


def test_nothing_is_recorded_unless_asked() -> None:
    with record_stages(False) as times, stage("load"):
        assert times is None
        assert current_times() is None
