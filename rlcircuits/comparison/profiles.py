"""What each kind of post-training is expected to do to the metrics and to accuracy.

A profile is a TOML file. Those that come with the package stand in ``profile_files/`` and are :data:`PROFILES`; a
team's own files have the same form, and no algorithm needs code::

    name = "our-rl"
    algorithms = ["gspo"]

    [accuracy]
    rule = "rose"             # rose, not-fallen, not-inferior, equivalent
    minimum = 0.01            # rose: a rise of less is no rise
    level = 0.01

    [metrics.intensity]
    expected = "up"           # up, down, same; a metric without a table is reported only
    minimum = 0.05            # up, down: a smaller change, relative to before, is negligible
    level = 0.01

:mod:`rlcircuits.comparison.verdict` says how these numbers are used.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.input_files import read_text
from rlcircuits.common.reprs import short_repr
from rlcircuits.common.validation import StrictModel, describe_error
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL

Direction = Literal["up", "down"]

AccuracyRuleName = Literal["rose", "not-fallen", "not-inferior", "equivalent"]

GATE_METRICS = ("intensity", "complexity", "kurtosis")
"""The three metrics that a verdict is about, in the order in which they are shown."""

ACCURACY = "accuracy"
"""Name of the accuracy test among a verdict's measures."""

NOT_ONLINE_RL = "not-online-rl"
"""Name of the test, among a verdict's measures, that a pair does not show online RL's pattern."""

ONLINE_RL: Mapping[str, Direction] = MappingProxyType({"intensity": "up", "complexity": "up", "kurtosis": "down"})
"""Directions in which online RL moves the metrics, as arXiv 2509.21044 reports them."""

NOT_RL = "not-rl"
"""Name of the profile for training without reinforcement learning."""

FORMER_NAMES: Mapping[str, str] = MappingProxyType({"control": NOT_RL})
"""Profile names of earlier versions, which users' files and stored comparisons hold, with today's names."""

DEFAULT_MARGIN = 0.02
"""Margin of the accuracy rules ``not-inferior`` and ``equivalent``, and of a claim: two points."""

Level = Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bound = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class MetricRule(StrictModel):
    """What a profile asserts of one metric."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    expected: Literal["up", "down", "same"]
    """The direction asserted, or that the metric moved by no more than `bound`."""
    minimum: Share = 0.0
    """Least change in that direction, relative to before's mean, that is not negligible."""
    level: Level = SIGNIFICANCE_LEVEL
    """Level of the one-sided signed-rank test in the direction."""
    bound: Bound | None = None
    """For ``same``: largest change either way, relative to before's mean."""

    @model_validator(mode="after")
    def _complete(self) -> MetricRule:
        if (self.expected == "same") != (self.bound is not None):
            needs = "needs a bound" if self.expected == "same" else "has no bound; bound is for expected = 'same'"
            raise ValueError(f"expected = {self.expected!r} {needs}")
        return self


class AccuracyRule(StrictModel):
    """What a profile asserts of accuracy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: AccuracyRuleName = "not-fallen"
    """``rose``; ``not-fallen``: no significant fall; ``not-inferior``: no fall of `margin` or more, shown by an
    interval; ``equivalent``: no change of `margin` or more either way, shown by an interval."""
    minimum: Share = 0.01
    """For ``rose``: a smaller rise is none. A share, so that 0.01 is one point."""
    margin: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = DEFAULT_MARGIN
    """For ``not-inferior`` and ``equivalent``; a share, so that 0.02 is two points."""
    level: Level = ACCURACY_LEVEL
    """Level of the exact one-sided sign test: for a rise with ``rose``, else for a fall."""


class Profile(StrictModel):
    """What is expected of one kind of post-training.

    Raises:
        RLCircuitsError: a key is unknown or its value does not fit; the message names the key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    algorithms: tuple[str, ...] = ()
    """Algorithms that have this profile by default."""
    accuracy: AccuracyRule = AccuracyRule()
    """What is asserted of accuracy."""
    metrics: Mapping[str, MetricRule] = Field(default_factory=dict)
    """What is asserted, by metric. The other metrics' directions are only reported."""
    must_not_show: str | None = None
    """Name of the built-in profile whose pattern on the metrics the pair must not show."""

    @field_validator("algorithms", mode="before")
    @classmethod
    def _lower(cls, algorithms: object) -> object:
        if isinstance(algorithms, list | tuple) and all(isinstance(each, str) for each in algorithms):
            return tuple(each.lower() for each in algorithms)
        return algorithms

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, metrics: Mapping[str, MetricRule]) -> Mapping[str, MetricRule]:
        for metric in metrics:
            if metric not in GATE_METRICS:
                raise ValueError(f"{truncated_repr(metric)} is no metric; it must be one of {', '.join(GATE_METRICS)}")
        return metrics

    @field_validator("must_not_show")
    @classmethod
    def _shows_a_pattern(cls, name: str | None) -> str | None:
        if name is not None and name != "online-rl":
            raise ValueError(f"is {truncated_repr(name)}; online-rl is the only profile with a pattern")
        return name

    def __repr__(self) -> str:
        return short_repr(self, repr(self.name))

    @property
    def expected(self) -> Mapping[str, Direction]:
        """Return the asserted direction by metric."""
        return {name: rule.expected for name, rule in self.metrics.items() if rule.expected != "same"}

    @property
    def not_online_rl(self) -> bool:
        """Return whether the profile asserts that the pair does not show online RL's pattern."""
        return self.must_not_show is not None

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the measures of a verdict, in order: the metrics, accuracy, and ``not-online-rl`` if asserted."""
        return (*GATE_METRICS, ACCURACY, *([NOT_ONLINE_RL] if self.not_online_rl else []))

    @property
    def asserted(self) -> tuple[str, ...]:
        """Return the measures that can fail: those about which the profile asserts something."""
        return tuple(measure for measure in self.measures if measure in self.metrics or measure not in GATE_METRICS)


def parse_profile(text: str, where: str) -> Profile:
    """Return the profile that a TOML text describes.

    Args:
        text: the text.
        where: the file's name, for errors.

    Raises:
        RLCircuitsError: the text is not TOML, a key is unknown, or a value does not fit; the message names the key.
    """
    try:
        return Profile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RLCircuitsError(f"{where}: it is no TOML: {error}") from None
    except ValidationError as error:
        raise RLCircuitsError(f"{where}{describe_error(error, Profile.model_fields)}") from None


@validate_arguments
def load_profile(file: str | Path) -> Profile:
    """Return the profile in a TOML file.

    Raises:
        RLCircuitsError: the file is missing or malformed, or has the name of a built-in profile.
    """
    profile = parse_profile(read_text(file, "a profile"), str(file))
    if profile.name in (builtin.name for builtin in PROFILES):
        raise RLCircuitsError(
            f"{file}, key 'name': {profile.name} is the name of a built-in profile; give yours another name"
        )
    return profile


@cache
def _built_in(name: str) -> Profile:
    file = resources.files("rlcircuits.comparison") / "profile_files" / f"{name}.toml"
    return parse_profile(file.read_text(encoding="utf-8"), f"{name}.toml")


PROFILES: tuple[Profile, ...] = tuple(map(_built_in, ("online-rl", "preference", "rejection", NOT_RL, "same-as")))
"""The built-in profiles."""


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
    raise RLCircuitsError(
        f"algorithm is {truncated_repr(algorithm)}; it must be one of {', '.join(algorithms())}; for another "
        f"one name a profile: a built-in one or your own TOML file"
    )


def profile_named(name: str) -> Profile:
    """Return the profile of this name, which may be one of :data:`FORMER_NAMES`, or in the TOML file of this name.

    Raises:
        RLCircuitsError: there is no such profile, or the file cannot be used.
    """
    if name.endswith(".toml"):
        return load_profile(name)
    for profile in PROFILES:
        if profile.name == current_name(name):
            return profile
    raise RLCircuitsError(
        f"profile is {truncated_repr(name)}; it must be one of {', '.join(p.name for p in PROFILES)}, or a TOML file"
    )


def current_name(name: str) -> str:
    """Return today's name of a profile that an earlier version may have named; any other name as it is."""
    return FORMER_NAMES.get(name, name)


def former_name(name: str) -> str:
    """Return the first name that a profile had; cache keys hold it, so that they outlast a renaming."""
    return next((former for former, today in FORMER_NAMES.items() if today == name), name)
