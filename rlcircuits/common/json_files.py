"""Reading JSON objects from users: a file of one object, such as a checkpoint's config, or one line of text.

Documents that are written have no NaN (:func:`without_nan`).
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.input_files import decode_utf8

__all__ = ["json_type_name", "parse_json_object", "read_json_object", "without_nan"]


def read_json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        RLCircuitsError: naming the file, if it cannot be read, is not UTF-8, or holds anything but one object.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RLCircuitsError(f"{file} cannot be read: {error.strerror or error}") from error
    text = decode_utf8(content, str(file))
    try:
        return parse_json_object(text)
    except RLCircuitsError as error:
        raise RLCircuitsError(f"{file} holds no JSON object (damaged or cut short?): {error}") from None


def parse_json_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        RLCircuitsError: the text is anything but one object, or an object has a field twice, which JSON parsers read
            differently. The caller puts the place of the text before the message.
    """
    try:
        content = json.loads(text, object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.rstrip("\n") else ""
        problem = error.msg.removesuffix(" at").removesuffix(" starting")
        raise RLCircuitsError(f"it is no JSON: {problem} at {line}column {error.colno}") from None
    except RLCircuitsError:
        raise
    except RecursionError:
        raise RLCircuitsError("it holds too many lists or objects within one another to be read") from None
    except ValueError:  # Python's limit on the digits of an int; json has no exception class for it
        digits = sys.get_int_max_str_digits()
        raise RLCircuitsError(f"it holds a whole number of more than {digits:,} digits") from None
    if not isinstance(content, dict):
        raise RLCircuitsError(f"found {json_type_name(content)}; a JSON object is wanted")
    return content


def json_type_name(value: Any) -> str:
    """Return a phrase for the JSON type of a value, such as ``a list``."""
    names = {
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def without_nan(value: Any) -> Any:
    """Return a document of dicts, lists and tuples with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _each_once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            raise RLCircuitsError(f"field {truncated_repr(name)} stands twice in one object; one of them is wanted")
        found[name] = value
    return found
