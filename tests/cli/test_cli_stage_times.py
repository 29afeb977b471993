"""Test ``compare --stage-times``: its table, the run's record and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_pairs import grade_kindly, save_tiny_pair

from rlcircuits.cli.main import main
from rlcircuits.release.run_record import load_run
from rlcircuits.report.stage_table import _LEAST, stage_table

OPTIONS = ["--algorithm=grpo", "--question-count=24", "--min-questions=2", "--noise-draws=1", "--max-new-tokens=6",
           "--no-stop-early", "--n=2", "--device=cpu"]  # fmt: skip


def test_stage_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    grade_kindly(monkeypatch)
    before, after = save_tiny_pair(tmp_path)
    pair = [f"--before={before}", f"--after={after}", f"--output={tmp_path / 'out'}", "--name=p", *OPTIONS]
    main(["compare", *pair, "--stage-times"])
    printed = capsys.readouterr().out.rstrip().splitlines()
    head = next(place for place, line in enumerate(printed) if line.startswith("stage "))
    rows = {line.split()[0]: line for line in printed[head + 2 :]}
    wanted = {"load", "answer", "grade", "pair", "attribute", "contract", "control", "statistics", "report", "rest"}
    assert "100.0 %" in rows["all"]
    run = load_run(tmp_path / "out" / "p")
    assert {each.stage for each in run.stages} >= wanted - {"report"}
    # Which stages are too short for a row depends on the machine.
    assert {"rest", *(each.stage for each in run.stages if each.seconds >= _LEAST)} <= set(rows)
    assert sum(each.seconds for each in run.stages) <= run.seconds + 0.1
    by_name = {each.stage: each for each in run.stages}
    assert 0 < by_name["answer"].in_controls < by_name["answer"].seconds
    assert stage_table(run.stages).splitlines()[-1].startswith("all")
    assert main(["report", str(tmp_path / "out"), "--html", str(tmp_path / "page")]) in (0, 1, 3)
    page = (
        "".join(file.read_text() for file in (tmp_path / "page").rglob("*.html"))
        if (tmp_path / "page").is_dir()
        else (tmp_path / "page").read_text()
    )
    assert "where the time went" in page
    capsys.readouterr()

    main(["compare", *pair, "--stage-times", "--json"])
    streams = capsys.readouterr()
    assert json.loads(streams.out)
    assert "of it in noise draws" in streams.err


def test_a_run_without_stage_times_records_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grade_kindly(monkeypatch)
    before, after = save_tiny_pair(tmp_path)
    pair = [f"--before={before}", f"--after={after}", f"--output={tmp_path / 'out'}", "--name=p", *OPTIONS]
    main(["compare", *pair, "--noise-draws=0"])
    assert "of it in noise draws" not in capsys.readouterr().out
    assert load_run(tmp_path / "out" / "p").stages == ()


def test_stage_times_are_of_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = save_tiny_pair(tmp_path)
    pair = [f"--before={before}", f"--after={after}", "--algorithm=grpo", "--ray=local"]
    assert main(["compare", *pair, "--stage-times"]) == 2
    assert "--stage-times is of this process, and with --ray others do the work" in capsys.readouterr().err
