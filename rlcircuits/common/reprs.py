"""Short reprs: one line that says what a person wants to know, however much there is inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

LONGEST = 199
"""Characters of a repr."""

_LONGEST_PART = 48


def short_repr(instance: object, *parts: str) -> str:
    """Write ``Kind(part, part, …)`` on one line, cut where it would be too long."""
    text = " ".join(f"{type(instance).__name__}({', '.join(parts)})".split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…)"


def elided_repr(value: object, longest: int = _LONGEST_PART) -> str:
    """Write a value as its repr, cut in its middle where it is long: of a path both ends say something."""
    text = repr(value)
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def format_fields(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[str]:
    """Write ``name=value`` for each."""
    return [f"{name}={elided_repr(value)}" for name, value in dict(values).items()]


def format_changed_fields(instance: Any) -> list[str]:
    """Write ``name=value`` for each field of a dataclass that is not as by default."""
    changed = {}
    for field in fields(instance):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if getattr(instance, field.name) != default:
            changed[field.name] = getattr(instance, field.name)
    return format_fields(changed)


def format_count(number: int, thing: str) -> str:
    """Write ``1 answer``, ``2 answers``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
