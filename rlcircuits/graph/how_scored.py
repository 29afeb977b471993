"""How edge scores were made, kept with the scores, so that scores of different kinds are not mixed up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rlcircuits.common.arguments import validate_arguments, validate_fields
from rlcircuits.common.choices import CROSS_ENTROPY, EAP
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import format_changed_fields, short_repr

__all__ = ["DEFAULT_SCORING", "HowScored"]


@dataclass(frozen=True)
class HowScored:
    """What was differentiated, and how. The defaults are the scores of arXiv 2509.21044."""

    metric: str = CROSS_ENTROPY
    """What was differentiated: a name of :data:`~rlcircuits.common.choices.METRICS`, or the name of a function."""

    method: str = EAP
    """Where gradients were taken: one of :data:`~rlcircuits.common.choices.METHODS`."""
    steps: int | None = None
    """Number of points of integrated gradients; None for other methods."""
    points: str | None = None
    """Where on its step each point lies: one of :data:`~rlcircuits.common.choices.POINTS`; None for other methods."""
    rules: tuple[str, ...] = ()
    """Rules that replaced parts of the backward: names of :data:`~rlcircuits.common.choices.RULES`."""
    rules_version: int | None = None
    """Version of these rules; None without any."""
    corrupted: bool = False
    """Whether a corrupted sequence's outputs took the place of the writers' (patching), instead of nothing (zero
    ablation)."""

    def __post_init__(self) -> None:
        validate_fields(self)

    def __repr__(self) -> str:
        return short_repr(self, *format_changed_fields(self))

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults, by name, as JSON has them; empty for the default scores."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            field.name: list(value) if isinstance(value := found[field.name], tuple) else value
            for field in fields(self)
            if found[field.name] != field.default
        }

    @classmethod
    @validate_arguments
    def of_changed(cls, changed: Mapping[str, Any]) -> HowScored:
        """Return the inverse of :attr:`changed`.

        Raises:
            RLCircuitsError: a name of no field, or a value of the wrong type.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in changed if name not in known]:
            raise RLCircuitsError(f"scores are said to have {unknown[0]!r}; it must be of {', '.join(known)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in changed.items()
        }
        return cls(**values)


def changed_in_words(changed: Mapping[str, Any]) -> list[str]:
    """Return each field of :attr:`HowScored.changed` with its value, as tables show them."""
    values = {name: ", ".join(value) if isinstance(value, list) else value for name, value in changed.items()}
    return [f"{name} {value}" for name, value in values.items()]


DEFAULT_SCORING = HowScored()
"""How the default scores are made."""
