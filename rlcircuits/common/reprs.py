"""Reprs of one short line, however much data an object holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

LONGEST = 199
"""Most characters of a repr."""

_LONGEST_PART = 48


def short_repr(instance: object, *parts: str) -> str:
    """Return ``Class(part, part, …)`` on one line of at most LONGEST characters."""
    text = " ".join(f"{type(instance).__name__}({', '.join(parts)})".split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…)"


def elided_repr(value: object, longest: int = _LONGEST_PART) -> str:
    """Return a value's repr, with its middle left out where it is long: both ends of a path are informative."""
    text = repr(value)
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def format_fields(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[str]:
    """Return ``name=value`` for each field, with shortened values."""
    return [f"{name}={elided_repr(value)}" for name, value in dict(values).items()]


def format_changed_fields(instance: Any) -> list[str]:
    """Return ``name=value`` for each field of a dataclass that differs from its default."""
    changed = {}
    for field in fields(instance):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if getattr(instance, field.name) != default:
            changed[field.name] = getattr(instance, field.name)
    return format_fields(changed)


def format_count(number: int, thing: str) -> str:
    """Return a number with its noun, such as ``1 answer`` or ``2 answers``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
