"""Run the steps of `action.yml` as a runner of GitHub Actions does, but for the steps that use other actions."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from helpers.paths import ROOT

_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")


def read_action() -> dict[str, Any]:
    """Return what `action.yml` says."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return found


@dataclass
class Runner:
    """One job that uses the action. A step has of the environment only what a runner gives to it."""

    temporary: Path
    """Folder of the runner; the job's repository is its folder ``repository``."""
    inputs: Mapping[str, str]
    github: Mapping[str, str] = field(default_factory=dict)
    """Values of the context ``github``, and variables ``GITHUB_…`` of every step."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """By step."""

    def __post_init__(self) -> None:
        defaults = {name: str(each.get("default", "")) for name, each in read_action()["inputs"].items()}
        self.inputs = {**defaults, **self.inputs}
        self.repository = self.temporary / "repository"
        self.repository.mkdir(parents=True, exist_ok=True)
        self.summary = self.temporary / "step-summary.md"

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the step with this name, and keep its outputs."""
        (step,) = (step for step in read_action()["runs"]["steps"] if step["name"] == name)
        output = self.temporary / "output"
        output.write_text("")
        script = self.temporary / "step.sh"
        script.write_text(step["run"])
        assert step["shell"] == "bash"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.temporary),
            "LANG": "C.UTF-8",
            "CI": "true",
            "RUNNER_TEMP": str(self.temporary),
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            **{f"GITHUB_{key.upper()}": value for key, value in self.github.items() if key != "token"},
            **{key: self.evaluate(str(value)) for key, value in step.get("env", {}).items()},
        }
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.repository,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = output.read_text(encoding="utf-8").splitlines()
        self.outputs.setdefault(step.get("id", ""), {}).update(line.split("=", 1) for line in lines)
        return ran

    def evaluate(self, text: str) -> str:
        """Return text with its expressions ``${{ context.name }}`` replaced; an unknown name is empty, as there."""
        return _EXPRESSION.sub(lambda found: self._value(found[1].split(".")), text)

    def _value(self, path: list[str]) -> str:
        if path[0] == "inputs":
            return self.evaluate(self.inputs[path[1]])
        if path[0] == "steps":
            return self.outputs.get(path[1], {}).get(path[3], "")
        assert path[0] == "github", path
        return self.github.get(path[1], "")
