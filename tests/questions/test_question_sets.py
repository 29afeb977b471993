"""Test the built-in question sets: their questions, splits and graders."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import arithmetic, load_questions, names
from rlcircuits.questions.source import BUILT_IN


def test_known_names() -> None:
    assert names() == ("arithmetic", "college_math", "equations", "gsm8k", "math", "math500")


@pytest.mark.slow
def test_splits_are_disjoint_and_cover_every_question() -> None:
    numbers = range(arithmetic.LOWEST, arithmetic.HIGHEST + 1)
    everything = [arithmetic.question_text(three) for three in itertools.product(numbers, repeat=3)]
    splits = [arithmetic.split_of(text) for text in everything]
    assert Counter(splits) == arithmetic.SIZES
    dev = [question.text for question in load_questions("arithmetic", split="dev").questions]
    assert dev == [text for text, split in zip(everything, splits, strict=True) if split == "dev"]


def test_drawn_questions_of_different_splits_never_meet() -> None:
    drawn = [
        {q.text for q in load_questions("arithmetic", split=split, count=3000).questions} for split in arithmetic.SPLITS
    ]
    assert [len(texts) for texts in drawn] == [3000] * 3
    assert len(set.union(*drawn)) == 9000


def test_split_and_questions_stay_the_same_for_good() -> None:
    # The stored checkpoints were trained and evaluated on these splits; other splits would mix them silently.
    assert [arithmetic.split_of(f"{n}+30+12?") for n in (41, 42, 43, 44)] == ["train", "dev", "train", "train"]
    first = load_questions("arithmetic", split="test", count=3).questions
    assert [question.text for question in first] == ["30+18+10?", "68+54+15?", "63+13+14?"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_draw_is_deterministic_and_a_smaller_count_is_a_prefix(name: str) -> None:
    many = load_questions(name, split="dev", count=50, seed=7).questions
    assert load_questions(name, split="dev", count=50, seed=7).questions == many
    assert load_questions(name, split="dev", count=20, seed=7).questions == many[:20]
    assert load_questions(name, split="dev", count=50, seed=8).questions != many
    assert len({question.id for question in many}) == 50
    assert {arithmetic.split_of(question.text) for question in many} == {"dev"}


def test_gold_is_the_sum() -> None:
    for question in load_questions("arithmetic", count=100).questions:
        assert int(question.gold) == sum(int(number) for number in question.text.rstrip("?").split("+"))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("41+30=71;71+12=83>83", True),
        (">83", True),
        ("41+30=72;72+12=84>83", True),  # only the result is graded
        ("41+30=71;71+12=83>84", False),
        ("41+30=71;71+12=83", False),
        ("83", False),
        ("", False),
        (">", False),
        (">83 ", False),
        (">83>", False),
        (">83;", False),
        (">83>83", True),
        (">84>83", True),
        (">83>84", False),
        (">083", False),
        (">+83", False),
        ("> 83", False),
        (">8 3", False),
        (">８３", False),  # full-width digits
    ],
)
def test_grade(answer: str, right: bool) -> None:
    assert load_questions("arithmetic", count=1).grade(answer, "83") is right


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arithmetics", {}, r"unknown question set 'arithmetics'; known: arithmetic, college_math, equations, gsm8k"),
        ("arithmetic", {"split": "validation"}, r"no split 'validation'; known: train, dev, test"),
        ("arithmetic", {"count": 0}, r"count of questions is 0"),
        ("arithmetic", {"count": 10**6}, r"count of questions is 1000000, but split 'test' of 'arithmetic' has 145482"),
    ],
)
def test_bad_requests_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        load_questions(name, **options)  # type: ignore[arg-type]
