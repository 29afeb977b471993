"""Whatever was changed in the files beside a comparison is noticed: answers, grades, scores, checkpoints."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edited_results import checks_of, differing, edit, edit_answers
from helpers.measured_results import FULL, PLAIN, measured_results
from helpers.tiny_pairs import grade_kindly

from rlcircuits import Answers, EdgeScores, RLCircuitsError, load_comparison
from rlcircuits.release.verification import verify_pair


@pytest.fixture(autouse=True)
def _kind_grader(monkeypatch: pytest.MonkeyPatch) -> None:
    grade_kindly(monkeypatch)  # the one that the answers were graded by


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the measured results."""
    return Path(shutil.copytree(measured_results(), tmp_path / "out"))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("place", [0, 7, 47])
def test_a_flipped_grade_is_noticed(folder: Path, side: str, place: int) -> None:
    def flip(items: Any) -> Any:
        item = items[place]
        return (*items[:place], replace(item, correct=not item.correct), *items[place + 1 :])

    edit_answers(folder / PLAIN / f"{side}.answers.jsonl", flip)
    found = verify_pair(folder / PLAIN, regrade=True)
    assert differing(found) >= {"accuracy", "grades"}
    item = Answers.load(folder / PLAIN / f"{side}.answers.jsonl").items[place]
    assert f"{side} answers, question {item.question_id!r}" in checks_of(found)["grades"].words


def test_a_flipped_grade_of_a_noise_draw_is_noticed(folder: Path) -> None:
    (file,) = (folder / "store").glob("models-base-+-noise-0-of-*.jsonl")
    # The grade of an answer that is not compared, so that the same sequences are scored.
    asked = load_comparison(folder / FULL).question_ids

    def flip(items: Any) -> Any:
        place = next(place for place, item in enumerate(items) if item.question_id not in asked)
        return (*items[:place], replace(items[place], correct=not items[place].correct), *items[place + 1 :])

    edit_answers(file, flip)
    found = verify_pair(folder / FULL)
    assert differing(found) == {"noise control"}
    assert [difference.field for difference in checks_of(found)["noise control"].differences] == [
        "comparison.controls.0.accuracy"
    ]


@pytest.mark.parametrize("stored", [True, False], ids=["with its store", "without a store"])
def test_one_changed_score_is_noticed(folder: Path, stored: bool) -> None:
    if not stored:
        shutil.rmtree(folder / "store")
    file = folder / PLAIN / "after.scores.safetensors"
    scores = EdgeScores.load(file)
    writer, reader = scores.graph.mask.nonzero()[5].tolist()
    scores.values[3, writer, reader] *= 1.5
    scores.save(file)
    found = verify_pair(folder / PLAIN)
    assert differing(found) >= ({"metrics", "scores"} if stored else {"metrics"})
    moved = {difference.field for difference in checks_of(found)["metrics"].differences}
    # Row 3 answers one of the questions, and no other one moves.
    questions = {match[1] for field in moved if (match := re.search(r"_values\.(\d+)$", field))}
    assert [f"comparison.effects.intensity.after_values.{question}" in moved for question in questions] == [True]
    if stored:
        words = f"after scores, values[3, {writer}, {reader}]: file "
        assert checks_of(found)["scores"].words.startswith(words)


def test_two_scores_that_changed_places_are_noticed_by_the_store(folder: Path) -> None:
    # No metric that is published sees this: both edges lead to the same reader.
    file = folder / PLAIN / "before.scores.safetensors"
    scores = EdgeScores.load(file)
    row = scores.values[0, :, -1]
    first, second = (place for place in row.nonzero().flatten().tolist()[:2])
    row[[first, second]] = row[[second, first]]
    scores.save(file)
    assert differing(verify_pair(folder / PLAIN)) == {"scores"}


def test_the_scores_of_another_model_are_noticed(folder: Path) -> None:
    shutil.copy(folder / PLAIN / "before.scores.safetensors", folder / PLAIN / "after.scores.safetensors")
    assert differing(verify_pair(folder / PLAIN)) >= {"metrics", "verdict", "scores"}


def test_scores_of_another_graph_are_noticed(folder: Path) -> None:
    file = folder / PLAIN / "after.scores.safetensors"
    scores = EdgeScores.load(file)
    graph = replace(scores.graph, mask=scores.graph.mask & (torch.arange(len(scores.graph.readers)) > 0))
    replace(scores, values=scores.values * graph.mask, graph=graph).save(file)
    found = verify_pair(folder / PLAIN)
    assert differing(found) >= {"metrics", "scores"}
    assert "different graphs" in checks_of(found)["metrics"].words


def test_scores_of_fewer_sequences_are_noticed(folder: Path) -> None:
    file = folder / PLAIN / "before.scores.safetensors"
    scores = EdgeScores.load(file)
    scores.of_rows(range(1, len(scores))).save(file)
    found = verify_pair(folder / PLAIN)
    assert (
        f"before scores are of {len(scores) - 1} sequences; the pairing has {len(scores)}"
        in checks_of(found)["metrics"].words
    )
    # What does not depend on the scores is recomputed all the same.
    assert checks_of(found)["accuracy"].agreement == checks_of(found)["pairing"].agreement == "agrees"


def test_answers_that_cannot_be_paired_are_noticed(folder: Path) -> None:
    edit_answers(
        folder / PLAIN / "after.answers.jsonl", lambda items: tuple(replace(item, correct=False) for item in items)
    )
    found = verify_pair(folder / PLAIN)
    assert differing(found) >= {"pairing", "accuracy"}
    assert "0 questions are left to compare" in checks_of(found)["pairing"].words
    assert checks_of(found)["metrics"].agreement == "not checked"


def test_other_weights_are_noticed(folder: Path) -> None:
    """The names in all files are changed to another checkpoint's: only its fingerprint and its weights tell."""
    other = load_comparison(folder / FULL / "control").after
    edit(folder / PLAIN / "comparison.json", lambda document: document["comparison"].update(after=other))
    answers = Answers.load(folder / PLAIN / "after.answers.jsonl")
    replace(answers, model=other).save(folder / PLAIN / "after.answers.jsonl")
    found = verify_pair(folder / PLAIN, models=True)
    assert {"checkpoints", "weights"} <= differing(found)
    assert f"after: {other} has the fingerprint" in checks_of(found)["checkpoints"].words


def test_a_checkpoint_that_is_gone_is_bad_input(folder: Path) -> None:
    edit(folder / PLAIN / "comparison.json", lambda document: document["comparison"].update(after="./gone"))
    with pytest.raises(RLCircuitsError, match="gone"):
        verify_pair(folder / PLAIN, models=True)


def test_a_text_that_is_not_the_tokens_is_noticed(folder: Path) -> None:
    """A wrong answer gets a right text and a right grade, and the number is changed to match."""
    right = {item.question_id: item.text for item in Answers.load(folder / PLAIN / "after.answers.jsonl").items}
    edit_answers(
        folder / PLAIN / "before.answers.jsonl",
        lambda items: tuple(
            item if item.correct else replace(item, text=right[item.question_id], correct=True) for item in items
        ),
    )
    assert "texts" in differing(verify_pair(folder / PLAIN, models=True))


def test_grades_of_a_set_of_ones_own_are_not_checked(folder: Path) -> None:
    comparison = folder / PLAIN / "comparison.json"
    edit(comparison, lambda document: document["comparison"].update(questions="mine"))
    found = verify_pair(folder / PLAIN, regrade=True)
    (check,) = found.missing
    assert check.words == "mine is a set of your own, so its grader is not known"
