"""A pair whose engine loads folders by itself: one engine answers with every model, whoever made it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.folder_engine import NAME, add_folder_engine
from helpers.tiny_pairs import grade_kindly, save_tiny_pair

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.cache import cached_headers
from rlcircuits.answers.recorded import SIDES, Side
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.files import STORE
from rlcircuits.release.answered_signs import answered_signs
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.result_files import answers_file
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

SETTINGS = Settings(
    question_count=24,
    min_questions=2,
    noise_draws=1,
    noise_groups=False,
    stop_early=False,
    greedy=True,
    sampling=Sampling(temperature=1.0, max_new_tokens=6),
    dtype="float32",
    device="cpu",
)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    add_folder_engine(monkeypatch)
    grade_kindly(monkeypatch)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before, after = save_tiny_pair(tmp_path)
    return make_pair(name="folders", before=str(before), after=str(after), algorithm="grpo")


def test_every_model_of_a_pair_is_answered_by_one_engine(pair: Pair, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = replace(SETTINGS, engine=NAME)
    found = run_pair(pair, settings, output=tmp_path / "out", notify=lines.append)
    assert found.k >= 2
    headers = [header for _, header in cached_headers(tmp_path / "out" / STORE)]
    assert len(headers) == 5, "both models twice, and the noise draw"
    assert {header.engine for header in headers} == {NAME}
    saved = [line for line in lines if "is saved into" in line]
    assert len(saved) == 1
    assert "noise 0" in saved[0]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert replace(found, engine="transformers") == run_pair(pair, replace(SETTINGS, engine="transformers"))


def test_models_that_answer_again_are_asked_by_the_same_engine(pair: Pair, tmp_path: Path) -> None:
    before, after = (CheckpointSource(each, dtype="float32", device="cpu") for each in (pair.before, pair.after))
    sources: dict[Side, CheckpointSource] = {"before": before, "after": after}
    found = {}
    for engine in ("transformers", NAME):
        output = tmp_path / engine
        stored = run_pair(pair, replace(SETTINGS, engine=engine, greedy=False), output=output)
        answers = {side: Answers.load(answers_file(output / pair.name, side)) for side in SIDES}
        found[engine] = answered_signs(("flatness", "rank-1"), stored, answers, sources, output / STORE)
        headers = [header for _, header in cached_headers(output / STORE)]
        assert len(headers) == 3 + 2 + 1, "the pair and its draw, both models shaken, and the rank-1 checkpoint"
        assert {header.engine for header in headers} == {engine}
    assert found[NAME] == found["transformers"]
    assert list((tmp_path / "temporary").iterdir()) == []
