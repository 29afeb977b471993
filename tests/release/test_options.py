"""The table of options agrees with the fields it stands for, and is cheap to import."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from rlcircuits.answers.engines.registry import ENGINES
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.types import Sampling
from rlcircuits.common.choices import ENGINE_NAMES
from rlcircuits.common.limits import LIMITS
from rlcircuits.release.circuit_rules import CircuitRules
from rlcircuits.release.options import OPTIONS, SECTIONS, Section, known_keys, options_as_markdown, options_in
from rlcircuits.release.pair import AskedQuestions, Pair
from rlcircuits.release.settings import Settings

CLASSES: dict[Section, Any] = {
    "settings": Settings,
    "settings.sampling": Sampling,
    "settings.prompting": Prompting,
    "circuits": CircuitRules,
    "pair": Pair,
    "questions": AskedQuestions,
}

WITHOUT_ONE_DEFAULT = ("n",)
"""Options whose default depends on what they are used for; the field's is that of answers for their own sake."""

TABLES_OF_A_PAIR = ("prompting", "circuits", "does_not_hold")
"""Keys of a pair that hold tables, not values."""


def fields_of(kind: Any) -> dict[str, Any]:
    """Each field's default; None where the field has none or has to be given."""
    if dataclasses.is_dataclass(kind):
        return {field.name: field.default for field in dataclasses.fields(kind)}
    return {name: None if field.is_required() else field.default for name, field in kind.model_fields.items()}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_table_has_every_field_with_its_default(section: Section) -> None:
    fields = fields_of(CLASSES[section])
    nested = {key for key in known_keys(section) if key not in {option.name for option in options_in(section)}}
    nested |= set(TABLES_OF_A_PAIR) if section == "pair" else set()
    rows = {option.name: option.default for option in options_in(section)}
    assert rows.keys() | nested == fields.keys()
    for name, default in rows.items():
        wanted = None if name in WITHOUT_ONE_DEFAULT else fields[name]
        assert (default or None) == (wanted or None), name


def test_flags_are_unique_and_numbers_have_limits() -> None:
    flags = [option.flag for option in OPTIONS if option.group or option.in_pytest]
    assert len(set(flags)) == len(flags)
    for option in OPTIONS:
        if option.value_type in (int, float) and option.section != "questions":
            assert option.name in LIMITS, option.name


def test_every_engine_is_among_the_choices() -> None:
    assert tuple(ENGINES) == ENGINE_NAMES


def test_the_markdown_has_a_row_for_each_option() -> None:
    lines = options_as_markdown().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == len(OPTIONS)
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
    assert (
        "| `k` | `--k` | `--rlcircuits-k` | `settings.k` | all of them | Number of questions compared, sampled from "
        "those that pass the protocol. A whole number from 1 to 1,000,000,000. |"
    ) in rows


def test_importing_the_table_imports_nothing_heavy() -> None:
    code = (
        "import sys, rlcircuits.release.options;"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'torch', 'scipy', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
