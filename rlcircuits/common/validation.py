"""Validation of users' files with pydantic: a strict model, and pydantic's errors as one readable line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.reprs import format_fields, short_repr

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["StrictModel", "describe_error"]

_KINDS = {
    "string": "a string",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table",
    "dataclass": "a table",
}
"""What is allowed, by the first word of pydantic's error type."""

_MEMBER_OF_A_UNION = re.compile(r".*\[.*\]|str|int|float|bool")
"""Parts of an error's location that pydantic adds: the member of a union that it tried, and ``[key]`` for keys."""

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def describe_error(error: ValidationError, known: Iterable[str] = (), before: str = ", key") -> str:
    """Return the first of pydantic's errors as one line: ``, key 'a.b': must be …``.

    An unknown key comes first, because it may be the misspelt name of one that is missing.

    Args:
        error: pydantic's error.
        known: the allowed keys, which the text lists for an unknown key.
        before: what the text has before the key.
    """
    first, *others = error.errors(include_url=False)
    first = next((each for each in (first, *others) if each["type"] in _UNKNOWN), first)
    key = ".".join(part for part in map(str, first["loc"]) if not _MEMBER_OF_A_UNION.fullmatch(part))
    return f"{f'{before} {key!r}' if key else ''}: {_reason(first, ', '.join(known))}"


def _reason(complaint: ErrorDetails, known: str) -> str:
    kind, context = complaint["type"], complaint.get("ctx", {})
    if kind in _UNKNOWN:
        return f"unknown{f'; known keys are {known}' if known else ''}"
    if kind == "missing":
        return "missing"
    if kind == "json_invalid":
        # The text is one line, so its line number says nothing.
        return f"it is no JSON: {str(context['error']).replace('line 1 column', 'column')}"
    if kind == "literal_error":
        wanted = str(context["expected"]).replace(" or ", ", ")
        return f"must be one of {wanted}, not {truncated_repr(complaint['input'])}"
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = f"at least {context['ge']:,}" if "ge" in context else f"at most {context['le']:,}"
        return f"must be {limit}, not {truncated_repr(complaint['input'])}"
    word, _, rest = kind.partition("_")
    if word in _KINDS and rest not in ("too_short", "too_long"):
        return f"must be {_KINDS[word]}, not {truncated_repr(complaint['input'])}"
    return complaint["msg"].removeprefix("Value error, ")


class StrictModel(BaseModel):
    """A model whose constructor raises RLCircuitsError naming the key that does not fit.

    ``model_validate`` still raises pydantic's error, which has the key's place in a larger table.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            kind = type(self)
            raise RLCircuitsError(f"{kind.__name__}{describe_error(error, kind.model_fields)}") from None

    def __repr__(self) -> str:
        return short_repr(self, *format_fields((name, value) for name, value in self if name in self.model_fields_set))

    # Tells pydantic not to call this constructor for nested models.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
