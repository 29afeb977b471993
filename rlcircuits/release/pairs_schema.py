"""Make the JSON Schemas of a pairs file and of a template: what an editor needs to complete and check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from rlcircuits.common.choices import ENGINE_NAMES
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.option import SECTIONS, Option, Section
from rlcircuits.release.options import options_in
from rlcircuits.release.pair import AskedQuestions, Pair
from rlcircuits.release.settings import Settings
from rlcircuits.release.sign_rules import SignRules
from rlcircuits.release.watch_template import OF_ONE_AFTER

__all__ = ["pairs_file_schema", "template_schema"]

_Schema = dict[str, Any]

_CLASSES: dict[Section, str] = {
    "settings": "Settings",
    "settings.sampling": "Sampling",
    "settings.prompting": "Prompting",
    "circuits": "CircuitRules",
    "pair": "Pair",
    "questions": "AskedQuestions",
}
"""The class that each table of the file stands for; a test compares it with the table of options."""


@dataclass(frozen=True)
class _Tables:
    """The tables of a pairs file."""

    settings: Settings
    circuits: CircuitRules
    signs: SignRules
    questions: list[AskedQuestions]
    pair: list[Pair]


def pairs_file_schema() -> _Schema:
    """Return the JSON Schema of ``release.toml``, made from the classes of its tables and the table of options.

    What pydantic cannot know is added: TOML has no null, a pair's question sets are names, and its circuits may be
    true or false. A file that the schema allows may still be refused, for a checkpoint that is missing for example.
    """
    schema: _Schema = TypeAdapter(_Tables).json_schema(mode="validation")
    classes = schema["$defs"]
    for section, name in _CLASSES.items():
        for option in options_in(section):
            key = classes[name]["properties"][option.name]
            key.pop("default", None)  # that of Python may be another
            key |= _of_option(option)
    pair = classes["Pair"]["properties"]
    pair["questions"] = {
        **{key: pair["questions"][key] for key in ("description", "default")},
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
        ],
    }
    pair["circuits"] = {
        "description": "What is measured and asserted of the pair's circuits; true: measured; false: nothing.",
        "anyOf": [{"$ref": "#/$defs/CircuitRules"}, {"type": "boolean"}],
    }
    reasons = {"type": "object", "additionalProperties": {"type": "string"}}
    pair["does_not_hold"] = {
        "description": "Measures known to fail, each with the reason; or a table of them for each question set.",
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "string"}, reasons]},
    }
    classes["Settings"]["properties"]["engine"]["enum"] = list(ENGINE_NAMES)
    classes["Pair"]["anyOf"] = [{"required": ["algorithm"]}, {"required": ["profile"]}]
    schema["required"] = ["pair"]
    schema["properties"]["pair"]["minItems"] = 1
    for each in _objects(schema):
        _take_away_null(each)
        if "properties" in each:
            each["additionalProperties"] = False
    for section, name in _CLASSES.items():
        classes[name]["description"] = SECTIONS[section]
    return schema


def template_schema() -> _Schema:
    """Return the JSON Schema of a template of ``rlcircuits watch``: a pairs file without what is of one ``after``."""
    schema = pairs_file_schema()
    pair = schema["$defs"]["Pair"]
    for key in OF_ONE_AFTER:
        del pair["properties"][key]
    pair["required"] = [key for key in pair["required"] if key not in OF_ONE_AFTER]
    pair["description"] = (
        "A pair whose after is each new checkpoint of a folder: the fields of `rlcircuits.Pair` but for "
        f"{', '.join(OF_ONE_AFTER)}."
    )
    return schema


def _of_option(option: Option) -> _Schema:
    """Return what the table of options says of a key."""
    found: _Schema = {"description": f"{option.description[0].upper()}{option.description[1:]}."}
    if option.default is not None:
        found["default"] = option.default
    if option.choices:
        found["enum"] = list(option.choices)
    if (limits := option.limits) is not None:
        found["maximum"] = limits.most
        found["minimum" if not limits.above else "exclusiveMinimum"] = 0 if limits.zero_too else limits.least
    return found


def _take_away_null(schema: _Schema) -> None:
    """Take null away, as a type and as a default."""
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    members = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(members) == 1:
        del schema["anyOf"]
        schema.update({**members[0], **schema})
    elif members:
        schema["anyOf"] = members


def _objects(value: object) -> Iterator[_Schema]:
    """Yield every object of a document."""
    if isinstance(value, dict):
        yield value
        for each in list(value.values()):
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)
