"""Accuracy at temperature 0 beside the sampled one: reported, through the same store, and no part of the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.tiny_pairs import save_tiny_pair

from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.comparison.effects import compare_accuracy
from rlcircuits.comparison.storage import load_comparison
from rlcircuits.comparison.verdict import judge
from rlcircuits.questions import load_questions
from rlcircuits.release.pair import Pair, make_pair
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings
from rlcircuits.report.terminal import summary_rows

pytestmark = pytest.mark.usefixtures("kind_grader")

SETTINGS = Settings(
    question_count=40,
    balance=2.0,
    alpha=0.5,
    noise_draws=0,
    stop_early=False,
    sampling=Sampling(max_new_tokens=6, n=2),
    device="cpu",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    before, after = save_tiny_pair(tmp_path_factory.mktemp("models"), update=0.3)
    return make_pair(name="mine", before=str(before), after=str(after), algorithm="dpo")


def test_both_accuracies_stand_side_by_side(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = run_pair(pair, SETTINGS, output=tmp_path)
    assert sampled.greedy is None
    told: list[str] = []
    both = run_pair(pair, replace(SETTINGS, greedy=True), output=tmp_path, notify=told.append)
    assert [line for line in told if "greedily" in line] == [
        f"mine: {side}, greedily, answers 40 questions of arithmetic" for side in ("after", "before")
    ]
    questions, greedy = load_questions("arithmetic", count=40), Sampling(temperature=0, max_new_tokens=6)
    by_hand = [
        answer_questions(CheckpointSource(name, device="cpu"), questions, greedy) for name in (pair.before, pair.after)
    ]
    assert both.greedy == compare_accuracy(*by_hand)
    assert both.greedy != both.accuracy
    # Everything else is as without it.
    assert replace(both, greedy=None) == sampled
    assert judge(both).words == judge(sampled).words
    assert load_comparison(tmp_path / "mine") == both
    rows = {row[1]: row for row in summary_rows(both)}
    assert list(rows)[:2] == ["accuracy", "greedy acc."]
    assert rows["greedy acc."][2] == f"{both.greedy.before:.3f} → {both.greedy.after:.3f}"
    assert rows["greedy acc."][-1].endswith(" (reported)")

    # A second run finds the answers in the store.
    def load(self: CheckpointSource) -> None:
        raise AssertionError(f"{self.name} was loaded")

    (tmp_path / "mine" / "comparison.json").unlink()
    monkeypatch.setattr(CheckpointSource, "load", load)
    assert run_pair(pair, replace(SETTINGS, greedy=True), output=tmp_path) == both


def test_greedy_answers_are_not_given_twice(pair: Pair) -> None:
    told: list[str] = []
    sampling = Sampling(temperature=0, max_new_tokens=6)
    found = run_pair(pair, replace(SETTINGS, greedy=True, sampling=sampling), notify=told.append)
    assert found.greedy == found.accuracy
    assert not [line for line in told if "greedily" in line]


def test_recorded_answers_cannot_be_greedy_too(pair: Pair, tmp_path: Path) -> None:
    recorded = pair.model_copy(update={"recorded_after": tmp_path / "after.jsonl"})
    with pytest.raises(RLCircuitsError, match=r"greedy is true, and after's answers are recorded in .*recorded_after"):
        run_pair(recorded, replace(SETTINGS, greedy=True))
