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

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from rlcircuits.common.arguments import validate_arguments
from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import short_repr
from rlcircuits.comparison.significance import ACCURACY_LEVEL, SIGNIFICANCE_LEVEL

Direction = Literal["up", "down"]

AccuracyRuleName = Literal["rose", "not-fallen", "not-inferior", "equivalent"]

ACCURACY_RULES: tuple[AccuracyRuleName, ...] = get_args(AccuracyRuleName)

GATE_METRICS = ("intensity", "complexity", "kurtosis")
"""The three metrics that a verdict is about, in the order in which they are shown."""

ACCURACY = "accuracy"
"""Name of the accuracy test among a verdict's measures."""

NOT_ONLINE_RL = "not-online-rl"
"""Name of the test, among a verdict's measures, that a pair does not show online RL's pattern."""

ONLINE_RL: Mapping[str, Direction] = MappingProxyType({"intensity": "up", "complexity": "up", "kurtosis": "down"})
"""Directions in which online RL moves the metrics, as arXiv 2509.21044 reports them."""

ONLINE_RL_PROFILE = "online-rl"
"""Name of the profile of online RL, whose rules for the metrics are the study's pattern."""

NOT_RL = "not-rl"
"""Name of the profile for training without reinforcement learning."""

FORMER_NAMES: Mapping[str, str] = MappingProxyType({"control": NOT_RL})
"""Profile names of earlier versions, which users' files and stored comparisons hold, with today's names."""

DEFAULT_MARGIN = 0.02
"""Margin of the accuracy rules ``not-inferior`` and ``equivalent``, and of a claim: two points."""


def _check_range(name: str, value: float, least: float, most: float, above: bool = False) -> None:
    if not (least < value if above else least <= value) or not value <= most:
        start = f"above {least:g} and at most" if above else f"from {least:g} to"
        raise RLCircuitsError(f"{name} is {truncated_repr(value)}; a number {start} {most:g} is wanted")


_Strict = Mapping[str, str]
_FORBID_UNKNOWN: _Strict = MappingProxyType({"extra": "forbid"})


@dataclass(frozen=True)
class MetricRule:
    """What a profile asserts of one metric."""

    __pydantic_config__: ClassVar[_Strict] = _FORBID_UNKNOWN

    expected: Literal["up", "down", "same"]
    """The direction asserted, or that the metric moved by no more than `bound`."""
    minimum: float = 0.0
    """Least change in that direction, relative to before's mean, that is not negligible. The interval must not reach
    below it."""
    level: float = SIGNIFICANCE_LEVEL
    """Level of the one-sided signed-rank test in the direction."""
    bound: float | None = None
    """For ``same``: largest change either way, relative to before's mean."""

    def __post_init__(self) -> None:
        _check_range("minimum", self.minimum, 0, 1)
        _check_range("level", self.level, 0, 0.5, above=True)
        if self.bound is not None:
            _check_range("bound", self.bound, 0, 10, above=True)
        if (self.expected == "same") != (self.bound is not None):
            needs = "needs a bound" if self.expected == "same" else "has no bound; bound is for expected = 'same'"
            raise RLCircuitsError(f"expected = {self.expected!r} {needs}")


@dataclass(frozen=True)
class AccuracyRule:
    """What a profile asserts of accuracy."""

    __pydantic_config__: ClassVar[_Strict] = _FORBID_UNKNOWN

    rule: AccuracyRuleName = "not-fallen"
    """``rose``; ``not-fallen``: no significant fall; ``not-inferior``: no fall of `margin` or more, shown by an
    interval; ``equivalent``: no change of `margin` or more either way, shown by an interval."""
    minimum: float = 0.01
    """For ``rose``: the interval of the rise must not reach below it. A share, so that 0.01 is one point."""
    margin: float = DEFAULT_MARGIN
    """For ``not-inferior`` and ``equivalent``; a share, so that 0.02 is two points."""
    level: float = ACCURACY_LEVEL
    """For ``rose`` and ``not-fallen``: level of the exact one-sided sign test for a rise, or for a fall."""

    def __post_init__(self) -> None:
        _check_range("minimum", self.minimum, 0, 1)
        _check_range("margin", self.margin, 0, 1, above=True)
        _check_range("level", self.level, 0, 0.5, above=True)


RULES_WITH: Mapping[str, tuple[AccuracyRuleName, ...]] = {
    "minimum": ("rose",),
    "margin": ("not-inferior", "equivalent"),
    "level": ("rose", "not-fallen"),
}
"""The rules for accuracy that use each key."""


@dataclass(frozen=True)
class Profile:
    """What is expected of one kind of post-training."""

    __pydantic_config__: ClassVar[_Strict] = _FORBID_UNKNOWN

    name: str
    algorithms: tuple[str, ...] = ()
    """Algorithms that have this profile by default."""
    accuracy: AccuracyRule = field(default_factory=AccuracyRule)
    """What is asserted of accuracy."""
    metrics: dict[str, MetricRule] = field(default_factory=dict)
    """What is asserted, by metric. The other metrics' directions are only reported."""
    must_not_show: Literal["online-rl"] | None = None
    """Name of the built-in profile whose pattern on the metrics the pair must not show."""

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or not self.name.isprintable():
            raise RLCircuitsError(
                f"name is {truncated_repr(self.name)}; a name on one line is wanted, without spaces around it"
            )
        object.__setattr__(self, "algorithms", tuple(each.lower() for each in self.algorithms))
        for metric in self.metrics:
            if metric not in GATE_METRICS:
                raise RLCircuitsError(
                    f"{truncated_repr(metric)} is no metric; it must be one of {', '.join(GATE_METRICS)}"
                )

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


@validate_arguments
def load_profile(file: str | Path) -> Profile:
    """Return the profile in a TOML file of a team's own.

    Raises:
        RLCircuitsError: the file is missing or not TOML, a key is unknown, a value does not fit, or the name is that of
            a built-in profile; the message names file and key.
    """
    from pydantic import TypeAdapter, ValidationError  # here, since pytest imports this module at every start

    from rlcircuits.common.input_files import read_text
    from rlcircuits.common.validation import describe_error

    text = read_text(file, "a profile")
    try:
        table = tomllib.loads(text)
        # As JSON, because pydantic's strict mode takes a JSON object for a dataclass, but no dict.
        profile = TypeAdapter(Profile).validate_json(json.dumps(table, default=lambda other: [str(other)]), strict=True)
    except (tomllib.TOMLDecodeError, RecursionError, OverflowError) as error:
        raise RLCircuitsError(f"{file}: cannot be read as TOML: {error}") from None
    except ValidationError as error:
        # The keys of the table that the first unknown key stands in.
        places = (each["loc"][0] for each in error.errors() if each["type"] == "unexpected_keyword_argument")
        kind = {"accuracy": AccuracyRule, "metrics": MetricRule}.get(str(next(places, "")), Profile)
        raise RLCircuitsError(f"{file}{describe_error(error, (each.name for each in fields(kind)))}") from None
    for key, rule, used_by in _ignored_keys(table, profile):
        raise RLCircuitsError(f"{file}, key {key!r}: {rule} does not use it; it is for {used_by}")
    if profile.name.casefold() in (*(built_in.name for built_in in PROFILES), *FORMER_NAMES):
        raise RLCircuitsError(
            f"{file}, key 'name': {profile.name} is the name of a built-in profile; give yours another name"
        )
    return profile


def _ignored_keys(table: dict[str, Any], profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Yield each key of a profile's file that its rule ignores, with that rule and those that use the key."""
    rule = profile.accuracy.rule
    for key, rules in RULES_WITH.items():
        if key in table.get("accuracy", {}) and rule not in rules:
            yield f"accuracy.{key}", f"rule = {rule!r}", " and ".join(rules)
    for metric, keys in table.get("metrics", {}).items():
        for key in ("minimum", "level"):
            if key in keys and profile.metrics[metric].expected == "same":
                yield f"metrics.{metric}.{key}", "expected = 'same'", "up and down"


def _built_in(name: str) -> Profile:
    file = resources.files("rlcircuits.comparison") / "profile_files" / f"{name}.toml"
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    table["accuracy"] = AccuracyRule(**table["accuracy"])
    table["metrics"] = {metric: MetricRule(**rule) for metric, rule in table.get("metrics", {}).items()}
    return Profile(**table)


PROFILES: tuple[Profile, ...] = tuple(
    map(_built_in, (ONLINE_RL_PROFILE, "preference", "rejection", "reported", NOT_RL, "same-as"))
)
"""The built-in profiles."""


def pattern_rules() -> Mapping[str, MetricRule]:
    """Return by metric what the study's pattern asks of it: the rules of the profile ``online-rl``."""
    return profile_named(ONLINE_RL_PROFILE).metrics


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
