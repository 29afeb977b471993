"""How many questions of a set are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlcircuits.common import defaults
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.asking import load_asked
from rlcircuits.release.pair import AskedQuestions
from rlcircuits.release.settings import make_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 30 questions."""
    path = tmp_path / "ours.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?", "answer": str(n)}) + "\n" for n in range(30)))
    return path


def test_a_small_file_is_asked_whole_by_default(file: Path) -> None:
    asked = load_asked(AskedQuestions(name="ours", file=file, grader="exact"), make_settings({}))
    assert sorted(int(question.gold) for question in asked.questions) == list(range(30))


@pytest.mark.parametrize(("count", "settings"), [(50, {}), (None, {"question_count": 50})])
def test_more_than_there_are_is_an_error_where_it_was_asked_for(
    file: Path, count: int | None, settings: dict[str, int]
) -> None:
    with pytest.raises(RLCircuitsError, match=r"count of questions is 50, but .*ours.jsonl has 30; lower"):
        load_asked(AskedQuestions(name="ours", file=file, grader="exact", count=count), make_settings(settings))


def test_a_large_set_is_asked_the_default(file: Path) -> None:
    rows = [json.dumps({"question": f"{n}?", "answer": str(n)}) + "\n" for n in range(defaults.QUESTION_COUNT + 5)]
    file.write_text("".join(rows))
    assert len(load_asked(AskedQuestions(name="ours", file=file, grader="exact"), make_settings({}))) == 400
    assert len(load_asked(AskedQuestions(name="arithmetic"), make_settings({"question_count": 7}))) == 7
