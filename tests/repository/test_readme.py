"""The README and the documentation keep their promises: their code runs, their commands and links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helpers.paths import ROOT

README = ROOT / "README.md"
FIXTURES = ROOT / "fixtures"
OUTSIDE = (README, ROOT / "CONTRIBUTING.md", FIXTURES / "README.md", FIXTURES / "smollm2" / "README.md")
PAGES = (*OUTSIDE, *sorted((ROOT / "docs").rglob("*.md")))
OUTSIDE_DOCS = {"changelog.md", "contributing.md", "trained-checkpoints.md", "pretrained-model.md"}
CHANGE_TABLE = re.compile(r"^\| I want to change .*?(?=\n\n)", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def python_example() -> tuple[str, str]:
    """The README's example in its two parts: attribution, and the comparison of a pair with the default settings."""
    (example,) = (text for language, text in blocks(README) if language == "python" and "import rlcircuits" in text)
    attribution, comparison = example.split("\n\npair = ")
    return attribution, f"import rlcircuits\npair = {comparison}"


def test_the_python_example_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(python_example()[0], names)
    assert tuple(names["scores"].values.shape) == (1, 9, 17)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_python_example_compares(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    exec(python_example()[1], {})
    assert "intensity" in capsys.readouterr().out


def test_every_command_line_example_is_understood() -> None:
    from rlcircuits.cli.main import _parser

    texts = [text.replace("\\\n", " ") for page in PAGES for _, text in blocks(page)]
    lines = [line.partition(" > ")[0] for text in texts for line in text.splitlines() if line.startswith("rlcircuits ")]
    assert {shlex.split(line)[1] for line in lines} >= {"init", "plan", "compare", "report"}
    for line in lines:
        assert _parser().parse_args(shlex.split(line)[1:]).run


def test_ci_finds_the_two_commands() -> None:
    text = README.read_text(encoding="utf-8").replace(".venv/bin/", " ")
    assert len(re.findall(r"^python3 -m venv .* tox run -e (gate|tests)$", text, re.M)) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_contributing_and_the_architecture_have_one_table_of_where_to_change_what() -> None:
    tables = [
        CHANGE_TABLE.search((ROOT / name).read_text(encoding="utf-8"))
        for name in ("CONTRIBUTING.md", "docs/architecture.md")
    ]
    ours, theirs = (table[0] for table in tables if table)
    assert ours == theirs


def test_every_file_and_name_in_that_table_exists() -> None:
    table = CHANGE_TABLE.search((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert table
    for row in table[0].splitlines()[2:]:
        cell = row.split("|")[2]
        files = [ROOT / name for name in re.findall(r"`((?:rlcircuits|tests)/[^`]+)`", row)]
        assert files, row
        for file in files:
            assert file.exists(), f"{file} is gone: {row}"
        code = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
        for name in re.findall(r"`([A-Za-z_]\w*)`", cell):
            assert name in code, f"{name} is gone: {row}"


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = set(re.findall(r": (\S+\.md)$", config, flags=re.M))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert shown == pages | OUTSIDE_DOCS
