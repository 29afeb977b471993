"""Files that hold one JSON object, such as a checkpoint's config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlcircuits.errors import RLCircuitsError, one_line

__all__ = ["read_json_object"]


def read_json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises RLCircuitsError naming the file where it cannot be read, is not UTF-8, or holds anything else.
    """
    try:
        content = json.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise RLCircuitsError(f"{file} cannot be read: {error.strerror or error}") from error
    # json raises a plain ValueError for integers of thousands of digits, and RecursionError for deep nesting.
    except (ValueError, RecursionError) as error:
        raise RLCircuitsError(f"{file} holds no JSON object (damaged or cut short?): {one_line(error)}") from error
    if not isinstance(content, dict):
        raise RLCircuitsError(f"{file} holds a JSON {_kind(content)}; a JSON object is wanted")
    return content


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return names[type(value)]
