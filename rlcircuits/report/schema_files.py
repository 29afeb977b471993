"""The JSON Schemas that come with the package, read as files, so that nothing heavy is imported."""

from __future__ import annotations

from importlib import resources

__all__ = ["SCHEMAS", "read_schema"]

SCHEMAS = {
    "comparison": "comparison.json, the result of one pair",
    "report": "what rlcircuits report --json and compare --json print",
    "differences": "what rlcircuits report A B --json prints",
    "track": "what rlcircuits track --json prints",
    "release": "release.toml, a pairs file, as the tables that a TOML reader returns",
    "template": "a template of rlcircuits watch, a pairs file whose pairs have no after",
}
"""Each schema's name, and what it describes."""


def read_schema(name: str) -> str:
    """Return the text of a schema, a JSON document, by its name in `SCHEMAS`."""
    return resources.files("rlcircuits").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
