"""The README's examples are run, so that they stay true."""

from __future__ import annotations

import re
import shlex

import pytest
from helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = (text for language, text in BLOCKS if language == "python" and "import rlcircuits" in text)
    names: dict[str, object] = {}
    exec(example, names)
    assert tuple(names["scores"].values.shape) == (1, 9, 17)  # type: ignore[attr-defined]
    assert "intensity" in capsys.readouterr().out


def test_every_command_line_example_is_understood() -> None:
    from rlcircuits.cli.main import _parser

    lines = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith("rlcircuits ")]
    assert len(lines) >= 6
    for line in lines:
        assert _parser().parse_args(shlex.split(line)[1:]).run


def test_ci_finds_the_two_commands() -> None:
    assert (
        len(re.findall(r"^python3 -m venv .* tox run -e (gate|tests)$", README.replace(".venv/bin/", " "), re.M)) == 2
    )


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "fixtures" / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
