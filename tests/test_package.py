"""The package as it is imported: every public name is there, and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rlcircuits


@pytest.mark.parametrize("name", rlcircuits.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(rlcircuits, name)
    assert name == "PROFILES" or value.__doc__, f"{name} has no docstring"


def test_the_core_names_are_public() -> None:
    core = {"attribute", "AnswerSequence", "Checkpoint", "activation_intensity", "information_complexity"}
    assert core | {"distribution_kurtosis"} <= set(rlcircuits.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="atribute"):
        rlcircuits.atribute  # noqa: B018


def test_importing_the_package_and_its_plugin_does_not_import_torch() -> None:
    program = "import rlcircuits, rlcircuits.plugin, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
