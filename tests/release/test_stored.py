"""What an earlier version stored is still taken for what it is: same keys, same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.stored_pairs import GRADERS, PAIRS, STORED, compare_pair, graded_answers

from rlcircuits import Checkpoint, CheckpointSource, Pair, load_comparison, save_comparison


@pytest.fixture(autouse=True)
def _no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Checkpoint:
        raise AssertionError("a model was loaded, though what it would make is stored")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(CheckpointSource, "load", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A copy of what is stored, which holds the same files with the same bytes after the test."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    assert _contents(tmp_path) == _contents(ROOT / STORED)


def _contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_finished_comparison_is_read(pair: Pair, folder: Path) -> None:
    lines: list[str] = []
    compare_pair(pair, folder, lines.append)
    assert lines == [f"{pair.name}: measured before, and nothing has changed since"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_stored_answers_and_scores_give_the_same_comparison(pair: Pair, folder: Path) -> None:
    shutil.rmtree(folder / pair.name)
    compare_pair(pair, folder, lambda _: None)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_comparison_is_written_as_it_was(pair: Pair, tmp_path: Path) -> None:
    stored = STORED / pair.name / "comparison.json"
    document = json.loads(stored.read_bytes())
    saved = save_comparison(load_comparison(stored), tmp_path, document["key"])
    assert json.loads(saved.read_bytes())["comparison"] == document["comparison"]


@pytest.mark.parametrize("grader", GRADERS)
def test_graded_answers_are_read(grader: str, folder: Path) -> None:
    assert len(graded_answers(grader, folder, lambda _: None)) == 40
