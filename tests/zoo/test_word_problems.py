"""Word problems: every way leads to the reference answer, and the grader reads demonstrations as they are meant."""

from __future__ import annotations

import random
import re
import sys

import pytest
from helpers.paths import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(FIXTURES))

from recipe.settings import TaskSettings
from recipe.tasks import TASKS
from recipe.tasks.word_problems import demonstrate, work_out

from rlcircuits.questions.grading.math_grader import grade_math

WORDS = ("word-sums", "word-steps")
seeds = st.integers(0, 2**32)
STEP = re.compile(r" (\d+) ([-+*]) (\d+) = (\d+)\.")


@pytest.mark.parametrize("name", WORDS)
@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_every_way_leads_to_one_result_through_numbers_of_the_question(name: str, seed: int) -> None:
    problem = TASKS[name].draw(random.Random(seed))
    given_numbers = set(map(int, re.findall(r"\d+", problem.text)))
    assert {work_out(way)[-1] for way in problem.ways} == {problem.result}
    for way in problem.ways:
        assert all(result >= 0 for result in work_out(way))
        assert {number for left, _, right in way for number in (left, right) if number is not None} <= given_numbers


@pytest.mark.parametrize("name", WORDS)
@given(seed=seeds, error_rate=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=200, deadline=None)
def test_a_demonstration_is_right_exactly_if_its_last_result_is(name: str, seed: int, error_rate: float) -> None:
    rng = random.Random(seed)
    task = TASKS[name]
    problem = task.draw(rng)
    text = demonstrate(problem, rng, TaskSettings(name=name, error_rate=error_rate))
    steps = STEP.findall(text)
    assert "".join(f" {a} {op} {b} = {c}." for a, op, b, c in steps) == text
    assert len(steps) == 2
    assert grade_math(text, str(problem.result)) == (int(steps[-1][3]) == problem.result)
    if error_rate == 0.0:
        assert int(steps[-1][3]) == problem.result


@pytest.mark.parametrize("name", WORDS)
def test_slips_are_as_frequent_as_the_settings_say(name: str) -> None:
    rng = random.Random(0)
    asked = TaskSettings(name=name, error_rate=0.2)
    wrong = 0
    for _ in range(2000):
        problem = TASKS[name].draw(rng)
        for left, operator, right, result in STEP.findall(demonstrate(problem, rng, asked)):
            wrong += int(result) != {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operator](
                int(left), int(right)
            )
    assert wrong / 4000 == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("name", WORDS)
def test_questions_of_a_split_are_distinct_and_of_that_split(name: str) -> None:
    found = {split: TASKS[name].held_out(split, 200, 42) for split in ("train", "dev", "test")}
    texts = [question.text for questions in found.values() for question in questions.questions]
    assert len(set(texts)) == 600
    for split, questions in found.items():
        assert {TASKS[name].split_of(question.text) for question in questions.questions} == {split}
    again = TASKS[name].held_out("test", 200, 42)
    assert again.questions == found["test"].questions
