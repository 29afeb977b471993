"""`action.yml`: inputs and outputs are used and described, what it uses is pinned, shell text has no expression."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.action_runner import read_action
from helpers.paths import ROOT

ACTION = read_action()
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
RUN = [step for step in STEPS if "run" in step]
SCRIPTS = sorted((ROOT / "action").iterdir())


def test_it_is_a_composite_action_whose_inputs_and_outputs_are_described() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert ACTION["inputs"].keys() == {
        "pairs", "tests", "on-inconclusive", "arguments", "output", "name", "extras", "python-version", "comment",
        "comment-author", "token",
    }  # fmt: skip
    assert ACTION["outputs"].keys() == {"exit-code", "outcome", "summary", "page", "artifact-url"}
    for each in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert each["description"]
    assert all(isinstance(each["default"], str) for each in ACTION["inputs"].values())


def test_every_input_is_used_and_every_expression_is_about_something_that_exists() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    used = re.findall(r"\binputs\.([\w-]+)", text)
    assert set(used) == set(ACTION["inputs"])
    ids = [step["id"] for step in STEPS if "id" in step]
    assert len(set(ids)) == len(ids)
    for step in re.findall(r"\bsteps\.([\w-]+)\.", text):
        assert step in ids


def test_every_action_that_it_uses_is_pinned_to_a_version() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert len(used) == len(STEPS) - len(RUN) == 4
    for name in used:
        assert re.fullmatch(r"actions/[\w/-]+@(v\d+|[0-9a-f]{40})", name)


@pytest.mark.parametrize("step", RUN, ids=lambda step: step["name"])
def test_no_expression_stands_in_shell_text(step: dict[str, Any]) -> None:
    # The runner replaces an expression before the shell reads the text, so that an input could hold a command.
    assert "${{" not in step["run"]
    assert "github.event" not in step["run"]
    assert step["shell"] == "bash"
    for script in re.findall(r"action/[\w.]+", step["run"]):
        assert (ROOT / script) in SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_reads_no_variable_that_its_step_does_not_give(script: Path) -> None:
    (step,) = (step for step in RUN if script.name in step["run"])
    text = script.read_text(encoding="utf-8")
    assert "eval" not in text.split()
    pattern = r"\$\{?([A-Z][A-Z_]+)" if script.suffix == ".sh" else r"environment(?:\[|\.get\()[\"']([A-Z_]+)"
    of_the_runner = {name for name in re.findall(pattern, text) if name.startswith(("GITHUB_", "RUNNER_"))}
    assert set(re.findall(pattern, text)) - of_the_runner == set(step["env"])


def test_the_documentation_shows_a_job_that_uses_it_in_six_lines() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    (six, *_) = (block for block in blocks if isinstance(block, list))
    assert len(text.split("```yaml\n")[1].split("```")[0].splitlines()) == 6
    (step,) = (step for step in six if "rlcircuits" in step["uses"])
    assert step["with"].keys() <= ACTION["inputs"].keys()
    for block in blocks:
        for job in block.get("jobs", {}).values() if isinstance(block, dict) else ():
            for step in job["steps"]:
                if "rlcircuits" in step.get("uses", ""):
                    assert step["with"].keys() <= ACTION["inputs"].keys()
