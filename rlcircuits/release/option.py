"""What an option is: its name in each place, its values, its default and its meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from rlcircuits.common.limits import LIMITS, Limits

Value = int | float | str | bool

Section = Literal["settings", "settings.sampling", "settings.prompting", "circuits", "pair", "questions"]
"""A table of ``release.toml``."""

SECTIONS: Mapping[Section, str] = MappingProxyType(
    {
        "settings": "How every pair is measured: the fields of `rlcircuits.Settings`.",
        "settings.sampling": "How answers are sampled: the fields of `rlcircuits.Sampling`.",
        "settings.prompting": "How a question becomes a prompt: the fields of `rlcircuits.Prompting`.",
        "circuits": "What is measured and asserted of every pair's circuits, or under `[pair.circuits]` of one pair's. "
        "Without the table nothing is.",
        "pair": "One pair of checkpoints: the fields of `rlcircuits.Pair`.",
        "questions": "One question set of your own: the fields of `rlcircuits.QuestionSource`, and `count`.",
    }
)
"""Each table of ``release.toml``, and what its keys are."""

Group = Literal["files", "report", "pair", "comparison", "answers", "scoring", "model", "runner"]

GROUPS: Mapping[Group, str] = MappingProxyType(
    {
        "files": "files",
        "report": "what is written of the result",
        "pair": "the pair",
        "comparison": "the comparison",
        "answers": "questions and answers",
        "scoring": "edge scores",
        "model": "loading checkpoints",
        "runner": "where the work is done",
    }
)
"""Groups of command-line options, with the titles they have in help texts. A command takes some of the groups."""


@dataclass(frozen=True)
class Option:
    """One option of the command line, the pytest plugin and ``release.toml``, or of some of these."""

    name: str
    """Key in ``release.toml``, and the field that holds the value."""
    description: str
    """Meaning, without a capital at the start or a full stop at the end. For a bool: what happens if it is true."""
    section: Section | None
    """Table of ``release.toml`` that holds the key; None for an option without a key."""
    group: Group | None = None
    """Group of command-line options; None for an option that the command line does not have."""
    in_pytest: bool = False
    """Add the option to pytest, as ``--rlcircuits-<flag>``."""
    default: Value | None = None
    unset: str = ""
    """What happens without a value, for an option whose default is None and that may be left out."""
    kind: type[Value] = str
    """Type of the value, for an option whose default is None; otherwise the default has it."""
    choices: tuple[str, ...] = ()
    """All values, for an option with a fixed choice."""
    more_cli_choices: tuple[str, ...] = ()
    """Further values that only the command line takes."""
    metavar: str | None = None
    """Placeholder of the value in help texts; by default N for a whole number."""
    flag_name: str | None = None
    """Name of the command-line option, where it is not the key with hyphens."""
    example: Value | None = None
    """Value in the template of ``release.toml``; by default the default."""

    @property
    def value_type(self) -> type[Value]:
        """Type of the value."""
        return self.kind if self.default is None else type(self.default)

    @property
    def flag(self) -> str:
        """Name of the command-line option without the leading hyphens; ``no-…`` turns off what is on by default."""
        name = self.flag_name or self.name.replace("_", "-")
        return f"no-{name}" if self.default is True else name

    @property
    def dest(self) -> str:
        """Attribute of the parsed command line that holds the value."""
        return (self.flag_name or self.name).replace("-", "_")

    @property
    def limits(self) -> Limits | None:
        """Range of a number's values; None for other options."""
        return LIMITS.get(self.name) if self.value_type in (int, float) else None

    @property
    def help(self) -> str:
        """Help text of the command-line option."""
        if self.value_type is bool:
            return f"do not {self.description}" if self.default else self.description
        default = self.unset if self.default is None else str(self.default)
        return f"{self.description} (default: {default})" if default else self.description

    def argparse_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of argparse's ``add_argument``, and of pytest's ``addoption``.

        The default is None there, so that an option given its default value can be told from one not given.
        """
        # A single % is the start of a placeholder to argparse.
        found: dict[str, Any] = {"help": self.help.replace("%", "%%"), "default": None}
        if self.value_type is bool:
            return {**found, "action": "store_false" if self.default else "store_true"}
        if self.choices:
            return {**found, "choices": self.choices}
        if self.value_type is str:
            return {**found, "metavar": self.metavar}
        return {**found, "type": self.value_type, "metavar": self.metavar or "N"}


def toml_value(value: Value) -> str:
    """Return a value as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)
