"""Which checkpoints are tried, by what was seen at each look: the states against a definition by whole histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.release.watch_states import MOST_TRIES, Files, State, after_look, after_try, to_try

NAMES = ("step-1", "step-2", "candidate")


def files(version: int) -> Files:
    return (("config.json", 10, 5, 1), ("model.safetensors", 100 + version, 7, 2))


looks = st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2).map(files)), max_size=25)
"""What each look finds: the files of some checkpoints, which appear, change and vanish."""

tries = st.lists(st.booleans(), min_size=120, max_size=120)
"""Whether each try succeeds."""


def watched(seen: Sequence[Mapping[str, Files]], succeed: Sequence[bool], most: int) -> list[list[tuple[str, bool]]]:
    """Return what is tried after each look, and whether it succeeded."""
    states: dict[str, State] = {}
    outcomes = iter(succeed)
    done = []
    for look in seen:
        states = after_look(states, look)
        assert states.keys() == look.keys(), "what is not there any more is forgotten"
        tried = []
        for name in sorted(states):
            if to_try(states[name], most):
                tried.append((name, next(outcomes)))
                states[name] = after_try(states[name], succeeded=tried[-1][1])
        done.append(tried)
    return done


@given(looks, tries, st.integers(1, MOST_TRIES))
def test_a_checkpoint_is_tried_as_its_history_says(
    seen: list[dict[str, Files]], succeed: list[bool], most: int
) -> None:
    tried = watched(seen, succeed, most)
    for name in NAMES:
        for place in range(len(seen)):
            assert (name in dict(tried[place])) == is_due(name, place, seen, tried, most)


def is_due(
    name: str, place: int, seen: Sequence[Mapping[str, Files]], tried: Sequence[list[tuple[str, bool]]], most: int
) -> bool:
    """Return whether a checkpoint is tried after a look: by how long it is as it is now, and what came of that."""
    if name not in seen[place]:
        return False
    first = place
    while first and seen[first - 1].get(name) == seen[place][name]:
        first -= 1
    earlier = [dict(each)[name] for each in tried[first:place] if name in dict(each)]
    return not any(earlier) and len(earlier) < most and place - first + 1 >= (2, 4, 8)[min(len(earlier), 2)]


@given(looks, tries)
def test_files_that_just_changed_are_never_tried(seen: list[dict[str, Files]], succeed: list[bool]) -> None:
    for place, tried in enumerate(watched(seen, succeed, MOST_TRIES)):
        for name, _ in tried:
            assert place > 0
            assert seen[place - 1].get(name) == seen[place][name]


@given(st.integers(2, 60))
def test_files_that_stay_are_judged_once_and_failures_are_bounded(count: int) -> None:
    seen = [{"step-1": files(0)}] * count
    assert sum(map(len, watched(seen, [True] * 120, MOST_TRIES))) == 1
    assert sum(map(len, watched(seen, [False] * 120, MOST_TRIES))) <= MOST_TRIES


def test_a_checkpoint_that_is_overwritten_is_judged_anew() -> None:
    seen = [{"step-1": files(0)}] * 3 + [{"step-1": files(1)}] * 3
    assert [len(each) for each in watched(seen, [True] * 120, MOST_TRIES)] == [0, 1, 0, 0, 1, 0]
