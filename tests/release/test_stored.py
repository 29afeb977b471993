"""Answers, scores and comparisons that an earlier version stored are still found: same keys, same bytes.

One word has changed since: the profile ``control`` is now written ``not-rl``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.stored_pairs import GRADERS, PAIRS, SETTINGS, STORED, compare_pair, graded_answers

from rlcircuits import Checkpoint, CheckpointSource, Pair, judge, load_comparison, save_comparison
from rlcircuits.release.finished import measurement_key
from rlcircuits.release.measurement import prepare


@pytest.fixture(autouse=True)
def _no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Checkpoint:
        raise AssertionError("a model was loaded, though what it would make is stored")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(CheckpointSource, "load", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the stored files, and check after the test that it holds the same files and bytes."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    assert _contents(tmp_path) == _contents(ROOT / STORED)


def _contents(folder: Path) -> dict[Path, bytes]:
    """Return the bytes of each file, with today's name for the profile."""
    return {
        path.relative_to(folder): path.read_bytes().replace(b'"profile": "control"', b'"profile": "not-rl"')
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
    today = {"control": "not-rl"}.get(document["comparison"]["profile"], document["comparison"]["profile"])
    assert json.loads(saved.read_bytes())["comparison"] == {**document["comparison"], "profile": today}


def test_the_former_name_of_a_profile_is_read() -> None:
    stored = STORED / "sft-clean" / "comparison.json"
    assert json.loads(stored.read_bytes())["comparison"]["profile"] == "control"
    comparison = load_comparison(stored)
    assert comparison.profile == judge(comparison).profile.name == "not-rl"


@pytest.mark.parametrize("profile", ["control", "not-rl"])
def test_a_pair_held_against_the_renamed_profile_keeps_its_key(profile: str) -> None:
    # Without an algorithm, the profile's name is in the key twice.
    pair = Pair(name="sft-clean", before=PAIRS[1].before, after=PAIRS[1].after, profile=profile)
    measurement = prepare(pair, SETTINGS, folder=None, store=None, notify=lambda _: None, progress=False)
    assert measurement_key(measurement) == "1b5b3c56ed5fff33e6fbc72ccfcc3b779f913a60d0c8d4b4c5cc5f2f5ea6012e"


@pytest.mark.parametrize("grader", GRADERS)
def test_graded_answers_are_read(grader: str, folder: Path) -> None:
    assert len(graded_answers(grader, folder, lambda _: None)) == 40
