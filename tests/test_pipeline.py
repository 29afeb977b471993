"""The order of a pair's stages, what they leave behind, and how many models they hold at once."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, ClassVar

import pytest
from made_up import answers_of, random_scores

from rlcircuits.answers import Answers
from rlcircuits.attribution import EdgeScores
from rlcircuits.checkpoint import Checkpoint
from rlcircuits.errors import RLCircuitsError
from rlcircuits.pairs import make_pair
from rlcircuits.pipeline import Settings, run_pair
from rlcircuits.report.json import load_comparison

PAIR = make_pair(name="mine", before="org/base", after="org/tuned", algorithm="grpo")
SETTINGS = Settings(k=30, question_count=40)


class FakeCheckpoint:
    """Counts how many of its kind are alive, and knows itself, as a model's modules do."""

    alive: ClassVar[weakref.WeakSet[FakeCheckpoint]] = weakref.WeakSet()
    most_alive = 0

    def __init__(self, path: str) -> None:
        self.name = path
        self.itself = self
        FakeCheckpoint.alive.add(self)
        FakeCheckpoint.most_alive = max(FakeCheckpoint.most_alive, len(FakeCheckpoint.alive))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Made-up stages; what they did."""
    done: list[str] = []

    def load(path: str, device: str | None, dtype: str | None) -> FakeCheckpoint:
        done.append(f"load {path}")
        return FakeCheckpoint(path)

    def answer(checkpoint: FakeCheckpoint, questions: Any, sampling: Any, progress: bool) -> Answers:
        done.append(f"answer {checkpoint.name} {len(questions)}")
        return answers_of([True] * 40, model=checkpoint.name)

    def attribute(checkpoint: FakeCheckpoint, sequences: Any, granularity: str, **_: Any) -> EdgeScores:
        done.append(f"attribute {checkpoint.name} {len(sequences)}")
        return random_scores(len(sequences), seed=len(done))

    FakeCheckpoint.most_alive = 0
    monkeypatch.setattr(Checkpoint, "load", load)
    monkeypatch.setattr("rlcircuits.pipeline.answer_questions", answer)
    monkeypatch.setattr("rlcircuits.pipeline.attribute", attribute)
    return done


def test_one_model_at_a_time(log: list[str]) -> None:
    told: list[str] = []
    comparison = run_pair(PAIR, SETTINGS, notify=told.append)
    assert log == [
        "load org/base",
        "answer org/base 40",
        "load org/tuned",
        "answer org/tuned 40",
        "attribute org/tuned 30",
        "load org/base",
        "attribute org/base 30",
    ]
    assert FakeCheckpoint.most_alive == 1
    assert len(FakeCheckpoint.alive) == 0
    assert comparison.k == 30
    assert (comparison.before, comparison.after) == ("org/base", "org/tuned")
    assert told == [
        "mine: before answers 40 questions of arithmetic",
        "mine: after answers 40 questions of arithmetic",
        "mine: asked 40 → answered by both 40 → right by both 40 → same prompt length 40 → "
        "length near the mean 40 → lengths balanced 40 → sampled 30; the first 3 tokens are scored",
        "mine: after is attributed on 30 answers",
        "mine: before is attributed on 30 answers",
    ]


def test_each_stage_is_kept(log: list[str], tmp_path: Path) -> None:
    comparison = run_pair(PAIR, SETTINGS, output=tmp_path)
    kept = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert kept == [
        "after.answers.jsonl",
        "after.scores.safetensors",
        "before.answers.jsonl",
        "before.scores.safetensors",
        "comparison.json",
    ]
    assert load_comparison(tmp_path / "mine") == comparison
    assert Answers.load(tmp_path / "mine" / "before.answers.jsonl").model == "org/base"
    assert len(EdgeScores.load(tmp_path / "mine" / "after.scores.safetensors")) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 3}, "k is 3"), ({"alpha": 2.0}, "alpha is 2.0"), ({"granularity": "atom"}, "granularity is 'atom'")],
)
def test_settings_are_checked_before_any_model_is_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        Settings(**options)
