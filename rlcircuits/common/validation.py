"""Validation of what users write: a strict model, and pydantic's errors in one line of our words."""

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
"""By the first word of the type of pydantic's error."""

_MEMBER_OF_A_UNION = re.compile(r".*\[.*\]|str|int|float|bool")
"""What pydantic puts into the place of a value that may be of several types: the type it tried, and [key] of a key."""

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def describe_error(error: ValidationError, known: Iterable[str] = (), before: str = ", key") -> str:
    """The first of pydantic's complaints in our words: ``, key 'a.b': must be …``.

    known: the keys there are. before: what stands before the key that is wrong.

    A key that is unknown goes first: it may be the misspelt name of one that is missing.
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
        # A line has no lines.
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
    """A model that, made by calling it, raises RLCircuitsError naming the key that does not fit.

    ``model_validate`` raises pydantic's error, which knows where in a larger table the key is.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            kind = type(self)
            raise RLCircuitsError(f"{kind.__name__}{describe_error(error, kind.model_fields)}") from None

    def __repr__(self) -> str:
        return short_repr(self, *format_fields((name, value) for name, value in self if name in self.model_fields_set))

    # So that pydantic does not come by here on its way into a nested table.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
