"""`rlcircuits report --json|--csv|--markdown` and `compare --summary`: data on standard output, and nothing else."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.cli.main import main
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.comparison import Comparison
from rlcircuits.comparison.storage import save_comparison
from rlcircuits.release.pair import Pair

TWO_PAIRS = """
[[pair]]
name = "one"
before = "org/base"
after = "org/tuned"
algorithm = "grpo"

[[pair]]
name = "lost"
before = "org/base"
after = "org/other"
algorithm = "grpo"
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        save_comparison(made_up_comparison(name), tmp_path / "out" / name)
    return tmp_path / "out"


def test_json_is_a_list_for_a_run_and_an_object_for_a_pair(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert [each["comparison"]["name"] for each in documents] == ["one", "two"]
    assert documents[0]["release"]["outcome"] == "holds"
    assert main(["report", str(results / "one"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        **documents[0],
        "release": {**documents[0]["release"], "p_corrected": documents[0]["release"]["p_against"]},
    }


def test_csv_and_markdown_and_a_page_beside_them(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(results), "--csv", "--html", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert {row["pair"] for row in rows} == {"one", "two"}
    assert "page: " in printed.err
    assert main(["report", str(results), "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("### ✅ rlcircuits: holds\n")


def test_an_unfinished_pair_leaves_no_verdict(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "three").mkdir()
    (results / "three" / "before.answers.jsonl").touch()
    assert main(["report", str(results), "--markdown"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("### ⚠️ rlcircuits: no verdict")
    assert "- **three**: was not finished" in text
    assert main(["report", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["release"]["unmeasured"] == ["three"]


def test_two_forms_at_once_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", str(results), "--csv", "--json"])
    assert ended.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_compare_writes_a_summary_whatever_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_pair(pair: Pair, *arguments: Any, **options: Any) -> Comparison:
        if pair.name == "lost":
            raise RLCircuitsError("it has no tokenizer")
        return made_up_comparison(pair.name)

    monkeypatch.setattr("rlcircuits.release.run.run_pair", run_pair)
    file, pairs = tmp_path / "summary.md", tmp_path / "pairs.toml"
    pairs.write_text(TWO_PAIRS)
    assert main(["compare", "--pairs", str(pairs), "--summary", str(file)]) == 2
    text = file.read_text(encoding="utf-8")
    assert text.startswith("### ⚠️ rlcircuits: no verdict\n\n**Why:** lost could not be measured")
    assert "- **lost**: it has no tokenizer" in text
    pairs.write_text(TWO_PAIRS[: TWO_PAIRS.rindex("[[pair]]")])
    assert main(["compare", "--pairs", str(pairs), "--summary", str(file), "--json"]) == 0
    assert file.read_text(encoding="utf-8").startswith("### ✅ rlcircuits: holds")
    capsys.readouterr()
    assert main(["compare", "--pairs", str(pairs), "--summary", str(tmp_path)]) == 2
    assert "--summary: " in capsys.readouterr().err
