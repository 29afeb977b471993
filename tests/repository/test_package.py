"""The package as it is imported: every public name is there, and importing it is cheap."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import rlcircuits
from rlcircuits.former_paths import FORMER_PATHS


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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("attribution", "attribute"),
        ("answers", "Sampling"),
        ("checkpoint", "Checkpoint"),
        ("comparison", "compare"),
        ("engines", "open_engine"),
        ("errors", "RLCircuitsError"),
        ("expectations", "PROFILES"),
        ("pairs", "load_pairs_file"),
        ("pipeline", "Settings"),
        ("graph", "EdgeGraph"),
        ("metrics", "activation_intensity"),
        ("questions", "load_questions"),
        ("questions.grading", "grade_all"),
        ("report", "summary_table"),
        ("report.json", "load_comparison"),
        *((path, "__name__") for path in FORMER_PATHS),
        ("engines.vllm", "VLLMEngine"),
        ("plugin", "pytest_addoption"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_import_paths_of_before_still_work(path: str, name: str) -> None:
    assert getattr(importlib.import_module(f"rlcircuits.{path}"), name) is not None


def test_a_former_path_says_where_its_module_is_now() -> None:
    sys.modules.pop("rlcircuits.errors", None)
    with pytest.warns(DeprecationWarning, match=r"rlcircuits\.errors is now rlcircuits\.common\.errors"):
        importlib.import_module("rlcircuits.errors")


def test_importing_the_package_and_its_plugin_does_not_import_torch() -> None:
    program = "import rlcircuits, rlcircuits.pytest_plugin, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_package_runs_as_the_command_line(tmp_path: Path) -> None:
    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rlcircuits", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    version = ran("--version")
    assert (version.returncode, version.stdout) == (0, f"rlcircuits {metadata.version('rlcircuits')}\n")
    (tmp_path / "release.toml").touch()
    wrong = ran("init")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("rlcircuits: release.toml is there already; ")


def test_the_command_line_starts_without_torch_and_transformers() -> None:
    program = (
        "import sys; from rlcircuits.cli.main import _parser; _parser(); "
        "sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
