"""What a kind of post-training should do to the metrics: one table, PROFILES."""

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
"""The three metrics the gate judges, in the order they are shown."""

ACCURACY = "accuracy"
NOT_ONLINE_RL = "not-online-rl"

ONLINE_RL: Mapping[str, Direction] = MappingProxyType({"intensity": "up", "complexity": "up", "kurtosis": "down"})
"""Where the paper saw the metrics go after online RL."""


@dataclass(frozen=True)
class Profile:
    """What is expected of a kind of post-training."""

    name: str
    algorithms: tuple[str, ...]
    expected: Mapping[str, Direction] = field(default_factory=lambda: MappingProxyType({}))
    """Direction asserted, by metric. Metrics not named are reported. Accuracy must never clearly fall."""
    not_online_rl: bool = False
    """It is asserted that the pair is not read as online RL."""

    def __repr__(self) -> str:
        return short_repr(self, repr(self.name))

    @property
    def measures(self) -> tuple[str, ...]:
        """What a verdict says something of, in order: the metrics, accuracy, and what else the profile asserts."""
        return (*GATE_METRICS, ACCURACY, *([NOT_ONLINE_RL] if self.not_online_rl else []))

    @property
    def asserted(self) -> tuple[str, ...]:
        """Those of the measures of which the profile asserts something."""
        return tuple(measure for measure in self.measures if measure in self.expected or measure not in GATE_METRICS)


PROFILES: tuple[Profile, ...] = (
    Profile(
        # Trained on its own sampled answers by their reward.
        name="online-rl",
        algorithms=("grpo", "ppo", "rloo", "reinforce", "dapo"),
        expected=ONLINE_RL,
    ),
    Profile(
        # Trained on pairs of preferred and rejected answers; weak or inconsistent in the paper.
        name="preference",
        algorithms=("dpo", "dpo-onpolicy", "ipo", "kto", "orpo", "simpo"),
    ),
    Profile(
        # Trained on its own right answers as if they were demonstrations; between online RL and none.
        name="rejection",
        algorithms=("rft",),
    ),
    Profile(
        # No reinforcement learning: must not be read as online RL.
        name="control",
        algorithms=("sft", "sft-more", "sft-clean", "noise"),
        not_online_rl=True,
    ),
)


def algorithms() -> tuple[str, ...]:
    """Every algorithm that has a profile."""
    return tuple(algorithm for profile in PROFILES for algorithm in profile.algorithms)


@validate_arguments
def profile_for(algorithm: str) -> Profile:
    """Find the profile of an algorithm, named in any case. Raises RLCircuitsError for an unknown one."""
    for profile in PROFILES:
        if algorithm.lower() in profile.algorithms:
            return profile
    raise RLCircuitsError(f"algorithm is {truncated_repr(algorithm)}; it must be one of {', '.join(algorithms())}")


def profile_named(name: str) -> Profile:
    """Find a profile by its name. Raises RLCircuitsError for an unknown one."""
    for profile in PROFILES:
        if name == profile.name:
            return profile
    raise RLCircuitsError(f"profile is {truncated_repr(name)}; it must be one of {', '.join(p.name for p in PROFILES)}")
