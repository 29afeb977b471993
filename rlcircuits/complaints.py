"""What pydantic finds wrong with a table, in one line of our words."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from rlcircuits.errors import shortened


def problem(error: ValidationError, known: Iterable[str] = ()) -> str:
    """The first of pydantic's complaints in our words: ``, key 'a.b': must be …``. `known`: the keys there are."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    found = shortened(first["input"])
    expected = str(first.get("ctx", {}).get("expected", ""))
    reason = {
        "extra_forbidden": f"unknown{'; known keys are ' + ', '.join(known) if known else ''}",
        "unexpected_keyword_argument": "unknown",
        "missing": "missing",
        "string_type": f"must be a string, not {found}",
        "int_type": f"must be a whole number, not {found}",
        "float_type": f"must be a number, not {found}",
        "dataclass_type": f"must be a table, not {found}",
        "literal_error": f"must be one of {expected.replace(' or ', ', ')}, not {found}",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{f', key {key!r}' if key else ''}: {reason}"
