"""The commented pairs file that ``rlcircuits init`` writes: a skeleton whose options come from the table of options."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from importlib import resources
from string import Template

from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.source import BUILT_IN, PUBLISHED
from rlcircuits.release.option import Option, Section, Value, toml_value
from rlcircuits.release.options import options_in

_SET_IN_A_PAIR = ("name", "before", "after", "algorithm", "questions")
"""Keys of the pair that are set and not commented out."""

_LONGEST_ALIGNED = 40
"""Keys up to this length have their comments in one column."""

_LINE_LENGTH = 120


def pairs_file_template(file_name: str, given: Mapping[str, str]) -> str:
    """Return a pairs file with one pair, and every other option as a comment with its default.

    Args:
        file_name: name of the file, for the commands in its head.
        given: values of the pair's ``before``, ``after``, ``algorithm`` and ``questions``, as far as they are known.
    """
    pair = {option.name: given.get(option.name) or option.example for option in options_in("pair")}
    skeleton = resources.files("rlcircuits").joinpath("templates", "release.toml.template").read_text(encoding="utf-8")
    return Template(skeleton).substitute(
        file=file_name,
        settings=_lines("settings"),
        sampling=_lines("settings.sampling"),
        prompting=_lines("settings.prompting"),
        circuits=_lines("circuits"),
        question_sets=_question_sets(),
        questions=_lines("questions"),
        pair=_lines("pair", {name: value for name, value in pair.items() if name in _SET_IN_A_PAIR and value}),
    )


def _lines(section: Section, values: Mapping[str, Value] | None = None) -> str:
    """Return a line for each option of a table; those without a value are commented out."""
    keys = {option: _key(option, (values or {}).get(option.name)) for option in options_in(section)}
    column = max(len(key) + 2 for key in keys.values() if len(key) < _LONGEST_ALIGNED)
    return "\n".join(_with_comment(key, _comment(option), column) for option, key in keys.items())


def _key(option: Option, value: Value | None) -> str:
    if value is not None:
        return f"{option.name} = {toml_value(value)}"
    return f"# {option.name} = {toml_value(_shown(option))}"


def _shown(option: Option) -> Value:
    shown = option.default if option.example is None else option.example
    assert shown is not None, f"{option.name} needs a default or an example"
    return shown


def _comment(option: Option) -> str:
    comment = option.description
    if not all(choice in comment for choice in option.choices):
        comment = f"{comment} ({', '.join(option.choices)})"
    default = option.unset if option.default is None else toml_value(option.default)
    return f"{comment}; default: {default}" if default and _shown(option) != option.default else comment


def _with_comment(key: str, comment: str, column: int) -> str:
    """Return the key, and from the column on its comment; below a key that is too long for one line."""
    lines = [f"# {line}" for line in textwrap.wrap(comment, _LINE_LENGTH - column - 2, break_on_hyphens=False)]
    if len(key) >= column:
        return "\n".join([key, *(" " * column + line for line in lines)])
    return "\n".join([key.ljust(column) + lines[0], *(" " * column + line for line in lines[1:])])


def _question_sets() -> str:
    lengths = {name: load_questions(name, count=1).max_new_tokens for name in BUILT_IN}
    lengths |= {name: published.max_new_tokens for name, published in PUBLISHED.items()}
    return ", ".join(f"{name} ({length})" for name, length in lengths.items())
