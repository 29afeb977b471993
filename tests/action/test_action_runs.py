"""The steps of `action.yml`, run as a runner would: in a clean environment, on a real pair of tiny checkpoints."""

from __future__ import annotations

import json
import sys
import sysconfig
import venv
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers.action_runner import Runner
from helpers.cli_runs import save_tiny_llama
from helpers.paths import ROOT

pytestmark = pytest.mark.slow

PAIRS = """
[settings]
question_count = 30
noise_draws = 0
noise_groups = false
[settings.sampling]
n = 1
max_new_tokens = 4

[[pair]]
name = "tiny"
before = "base"
after = "tuned"
algorithm = "dpo"
questions = "arithmetic"
"""
"""A pair of random models, which answer nothing right: the release is inconclusive."""


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A job whose repository has a pairs file, two checkpoints, and a test; rlcircuits runs from this checkout."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"ref": "refs/heads/main"}))
    made = Runner(tmp_path, {}, {"event_path": str(event), "repository": "team/model"})
    save_tiny_llama(made.repository / "base", seed=0)
    save_tiny_llama(made.repository / "tuned", seed=1)
    (made.repository / "release.toml").write_text(PAIRS)
    (made.repository / "test_release.py").write_text(
        "def test_effect(effect):\n    assert effect.holds, effect.message\n"
    )
    python = tmp_path / "rlcircuits" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return made


def test_compare_judges_the_summary_and_the_page_are_written_and_the_job_fails(runner: Runner) -> None:
    ran = runner.run("Judge")
    assert ran.returncode == 0, ran.stderr
    found = runner.outputs["gate"]
    assert (found["exit-code"], found["outcome"]) == ("3", "inconclusive")
    assert "junit" not in found
    assert runner.summary.read_text(encoding="utf-8").startswith("### ❔ rlcircuits: inconclusive")
    assert (runner.repository / "rlcircuits-results" / "store").is_dir()
    assert runner.run("Write the page").returncode == 0
    page = Path(runner.outputs["page"]["page"]).read_text(encoding="utf-8")
    assert "tiny" in page
    assert runner.run("Fail if the gate does").returncode == 3


def test_pytest_judges_and_an_inconclusive_release_may_pass(runner: Runner) -> None:
    runner.inputs = {**runner.inputs, "tests": "test_release.py", "on-inconclusive": "warn", "arguments": "-q  -rs\n"}
    ran = runner.run("Judge")
    found = runner.outputs["gate"]
    assert (found["exit-code"], found["outcome"]) == ("0", "inconclusive"), ran.stdout
    suite = ElementTree.parse(found["junit"])
    assert any(each.attrib["name"] == "rlcircuits.pair_seconds" for each in suite.iter("property"))
    assert runner.run("Fail if the gate does").returncode == 0


def test_bad_input_is_told_and_no_input_is_run(runner: Runner) -> None:
    hostile = '$(touch pwned) `touch pwned`; touch "pwned" *'
    for inputs in ({"arguments": hostile}, {"pairs": hostile}, {"output": hostile, "pairs": "gone.toml"}):
        runner.inputs = {**Runner(runner.temporary, {}).inputs, **inputs}
        ran = runner.run("Judge")
        assert ran.returncode == 0, ran.stderr
        assert (runner.outputs["gate"]["exit-code"], runner.outputs["gate"]["outcome"]) == ("2", "no verdict")
        assert not (runner.repository / "pwned").exists()
    assert "exit code 2 before it measured a pair" in runner.summary.read_text(encoding="utf-8")
    ran = runner.run("Write the page")
    assert (ran.returncode, runner.outputs["page"]) == (0, {})
    assert "::warning" in ran.stdout
    assert runner.run("Fail if the gate does").returncode == 2


def test_install_makes_an_environment_that_has_the_command(tmp_path: Path) -> None:
    # Requirements that are installed here are found through a path file, so that only rlcircuits itself is installed.
    environment = tmp_path / "rlcircuits"
    venv.create(environment, with_pip=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib"))
    runner = Runner(tmp_path, {})
    ran = runner.run("Install")
    assert ran.returncode == 0, ran.stderr
    (runner.repository / "release.toml").write_text("")
    runner.run("Judge")
    assert runner.outputs["gate"]["exit-code"] == "2"  # the empty file
    assert (site / "rlcircuits" / "pytest_plugin.py").is_file()
