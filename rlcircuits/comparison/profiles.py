"""What each kind of post-training is expected to do to the metrics: one table, :data:`PROFILES`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import short_repr

Direction = Literal["up", "down"]

GATE_METRICS = ("intensity", "complexity", "kurtosis")
"""The three metrics that a verdict is about, in the order in which they are shown."""

ACCURACY = "accuracy"
"""Name of the accuracy test among a verdict's measures."""

NOT_ONLINE_RL = "not-online-rl"
"""Name of the test, among a verdict's measures, that a pair does not look like online RL."""

ONLINE_RL: Mapping[str, Direction] = MappingProxyType({"intensity": "up", "complexity": "up", "kurtosis": "down"})
"""Directions in which online RL moves the metrics, as arXiv 2509.21044 reports them."""

NOT_RL = "not-rl"
"""Name of the profile for training without reinforcement learning."""

FORMER_NAMES: Mapping[str, str] = MappingProxyType({"control": NOT_RL})
"""Profile names of earlier versions, which users' files and stored comparisons hold, with today's names."""


@dataclass(frozen=True)
class Profile:
    """What is expected of one kind of post-training. Accuracy must not fall, whatever the profile."""

    name: str
    algorithms: tuple[str, ...]
    """Algorithms that have this profile by default."""
    expected: Mapping[str, Direction] = field(default_factory=lambda: MappingProxyType({}))
    """Asserted direction by metric. The directions of all other metrics are only reported."""
    not_online_rl: bool = False
    """Whether the profile asserts that the pair does not look like online RL."""

    def __repr__(self) -> str:
        return short_repr(self, repr(self.name))

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the measures of a verdict, in order: the metrics, accuracy, and ``not-online-rl`` if asserted."""
        return (*GATE_METRICS, ACCURACY, *([NOT_ONLINE_RL] if self.not_online_rl else []))

    @property
    def asserted(self) -> tuple[str, ...]:
        """Return the measures that can fail: those about which the profile asserts something."""
        return tuple(measure for measure in self.measures if measure in self.expected or measure not in GATE_METRICS)


PROFILES: tuple[Profile, ...] = (
    Profile(
        # Trained on the reward of its own sampled answers.
        name="online-rl",
        algorithms=("grpo", "ppo", "rloo", "reinforce", "dapo"),
        expected=ONLINE_RL,
    ),
    Profile(
        # Trained on pairs of preferred and rejected answers. The paper's effects are weak or inconsistent.
        name="preference",
        algorithms=("dpo", "dpo-onpolicy", "ipo", "kto", "orpo", "simpo"),
    ),
    Profile(
        # Trained on its own right answers as if they were demonstrations: between online RL and supervised training.
        name="rejection",
        algorithms=("rft",),
    ),
    Profile(
        # Trained without reinforcement learning, so it must not look like online RL.
        name=NOT_RL,
        algorithms=("sft", "sft-more", "sft-clean", "noise"),
        not_online_rl=True,
    ),
)


def algorithms() -> tuple[str, ...]:
    """Return every algorithm that has a profile."""
    return tuple(algorithm for profile in PROFILES for algorithm in profile.algorithms)


@validate_arguments
def profile_for(algorithm: str) -> Profile:
    """Return the profile of an algorithm.

    Args:
        algorithm: name of the training algorithm, in upper or lower case.

    Raises:
        RLCircuitsError: the algorithm has no profile.
    """
    for profile in PROFILES:
        if algorithm.lower() in profile.algorithms:
            return profile
    raise RLCircuitsError(f"algorithm is {truncated_repr(algorithm)}; it must be one of {', '.join(algorithms())}")


def profile_named(name: str) -> Profile:
    """Return the profile of this name, which may be one of :data:`FORMER_NAMES`.

    Raises:
        RLCircuitsError: there is no such profile.
    """
    for profile in PROFILES:
        if profile.name == current_name(name):
            return profile
    raise RLCircuitsError(f"profile is {truncated_repr(name)}; it must be one of {', '.join(p.name for p in PROFILES)}")


def current_name(name: str) -> str:
    """Return today's name of a profile that an earlier version may have named; any other name as it is."""
    return FORMER_NAMES.get(name, name)


def former_name(name: str) -> str:
    """Return the first name that a profile had; cache keys hold it, so that they outlast a renaming."""
    return next((former for former, today in FORMER_NAMES.items() if today == name), name)
