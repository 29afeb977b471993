"""Make the JSON Schemas of what other programs read and write, from the classes that the package itself uses.

The files in ``rlcircuits/schemas/`` are written anew by

    python -m rlcircuits.report.schemas

and a test compares them with what this module makes. A schema's ``$id`` ends with its version: that of the files for
comparisons and reports. Raise the version in `_VERSIONS` if a document that was valid is not any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rlcircuits.common.files import write_text_atomically
from rlcircuits.comparison import storage
from rlcircuits.comparison.storage import Document
from rlcircuits.release.pairs_schema import pairs_file_schema, template_schema
from rlcircuits.report.release_json import ReleaseDocument
from rlcircuits.report.schema_files import SCHEMAS
from rlcircuits.report.track_document import TRACK_VERSION, TrackDocument
from rlcircuits.report.two_runs import DIFFERENCES_VERSION, RunDifference

__all__ = ["make_schema", "schema_text"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ROLE = re.compile(r":\w+:(?=`)")
"""What Sphinx reads before a name in a docstring."""

_VERSIONS = {
    "comparison": storage.VERSION,
    "report": storage.VERSION,
    "track": TRACK_VERSION,
    "differences": DIFFERENCES_VERSION,
    "release": 1,
    "template": 1,
}


def make_schema(name: str) -> dict[str, Any]:
    """Return a schema by its name in :data:`~rlcircuits.report.schema_files.SCHEMAS`."""
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "comparison": lambda: TypeAdapter(Document).json_schema(),
        "report": lambda: TypeAdapter(ReleaseDocument | list[ReleaseDocument]).json_schema(),
        "differences": lambda: TypeAdapter(RunDifference).json_schema(),
        "track": lambda: TypeAdapter(TrackDocument).json_schema(),
        "release": pairs_file_schema,
        "template": template_schema,
    }
    made = makers[name]()
    for each in made.get("$defs", {}).values():
        if "description" in each:  # a docstring, whose first paragraph says what the class is
            each["description"] = _ROLE.sub("", each["description"].partition("\n\n")[0])
    about = {"$schema": _DIALECT, "$id": f"urn:rlcircuits:schema:{name}:{_VERSIONS[name]}"}
    return {**made, **about, "title": f"rlcircuits {name}", "description": SCHEMAS[name]}


def schema_text(name: str) -> str:
    """Return the text of the file that ships a schema."""
    return json.dumps(make_schema(name), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in SCHEMAS:
        file = Path(__file__).resolve().parents[1] / "schemas" / f"{each}.schema.json"
        file.parent.mkdir(exist_ok=True)
        write_text_atomically(file, schema_text(each))
        print(file)
