"""Hints: files of them, those of the built-in sets, leaks, where a solution is cut, and what a gain says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits import Prompting, RLCircuitsError, load_questions
from rlcircuits.answers.answer_file import Answers
from rlcircuits.questions.grading.graders import grade_answer, grade_exact
from rlcircuits.vital_signs.hint_file import QuestionHints, read_hints
from rlcircuits.vital_signs.hint_leaks import leaks_answer
from rlcircuits.vital_signs.hinted_questions import LEAKS, NO_CUT, NO_HINT, NO_ROOM, PromptReader, ask_with_hints
from rlcircuits.vital_signs.hints import KINDS, HintKind, hint_gain_sign
from rlcircuits.vital_signs.solution_prefix import cut_solution, may_cut
from rlcircuits.vital_signs.steps import read_steps
from rlcircuits.vital_signs.written_hints import written_hints
from tests.helpers.answer_makers import make_answers

PLAN, KNOWLEDGE, SUBPROBLEM, *PREFIXES = KINDS
SETS = ("arithmetic", "equations")


class Characters:
    """A tokenizer whose tokens are characters."""

    chat_template = None

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, ids))


READER = PromptReader(Characters(), None)


def write_lines(folder: Path, *lines: object) -> Path:
    file = folder / "hints.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def test_hints_are_read_by_either_name_of_the_id(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path,
        {"question_id": "b", "plan": "go"},
        "",
        {"id": 3, "solution": "so 4"},
        {"id": "not asked", "plan": "x"},
    )
    found = read_hints(file, ["3", "b", "c"])
    assert list(found) == ["3", "b"]
    assert found["b"] == QuestionHints(question_id="b", plan="go")
    assert found["3"].solution == "so 4"
    assert set(read_hints(file)) == {"3", "b", "not asked"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "hints.jsonl:1: it is no JSON"),
        ("[]", "hints.jsonl:1: found a list; a JSON object is wanted"),
        ('{"id": "a", "plan": "x", "plan": "y"}', "hints.jsonl:1: field 'plan' stands twice"),
        ({"plan": "x"}, "hints.jsonl:1, key 'question_id': missing"),
        ({"id": "a", "question_id": "a", "plan": "x"}, "hints.jsonl:1: question_id and id are both given"),
        ({"id": "a", "plans": "x"}, "hints.jsonl:1, key 'plans': unknown; known keys are question_id, plan, knowledge"),
        ({"id": "a", "plan": 3}, "hints.jsonl:1, key 'plan': must be a string, not 3"),
        ({"id": "a", "plan": " "}, "hints.jsonl:1, key 'plan': it is empty"),
        ({"id": "", "plan": "x"}, "hints.jsonl:1, key 'question_id': it is empty"),
        ({"id": True, "plan": "x"}, "hints.jsonl:1, key 'question_id': must be a string, not True"),
        ({"id": "a"}, "hints.jsonl:1: no hint; any of plan, knowledge, subproblem, solution is wanted"),
        ({"id": "z", "plan": "x"}, "none of the 1 questions with hints was asked; ids such as 'a' are wanted, not 'z'"),
        ("", "it is empty; hints are wanted"),
    ],
)
def test_bad_lines_are_refused(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(RLCircuitsError) as caught:
        read_hints(write_lines(tmp_path, line), ["a"])
    assert message in str(caught.value)


def test_one_line_a_question(tmp_path: Path) -> None:
    file = write_lines(tmp_path, {"id": "a", "plan": "x"}, {"id": "a", "knowledge": "y"})
    with pytest.raises(RLCircuitsError, match=r"jsonl:2: question 'a' has its hints in .*jsonl:1 already"):
        read_hints(file, ["a"])
    with pytest.raises(RLCircuitsError, match="cannot be read as hints"):
        read_hints(tmp_path / "none.jsonl", ["a"])


@pytest.mark.parametrize("name", SETS)
def test_written_solutions_are_right(name: str) -> None:
    """A solution is graded right and has right steps, and the other hints are its beginnings."""
    questions = load_questions(name, count=300)
    hints = written_hints(questions)
    for question in questions.questions:
        each = hints[question.id]
        assert each.solution is not None
        assert grade_answer(questions.grade, each.solution, question.gold).correct
        assert all(read_steps(each.solution))
        for hint in (each.plan, each.knowledge, each.subproblem):
            assert hint is not None
            assert each.solution.startswith(hint)


@pytest.mark.parametrize(
    ("hint", "gold", "leaks"),
    [
        ("It is 83.", "83", True),
        ("It is 183 or 8.3", "83", False),
        ("about 1,083.0 apples", "1083", True),
        ("5-7", "-7", True),
        ("first 3x=21", "3", True),
        ("the result is Blue", "blue", True),
        ("bluebird", "blue", False),
        ("so \\frac{1}{2}", "\\frac{1}{2}", True),
        ("so 12", "\\frac{1}{2}", False),
        ("", "83", False),
    ],
)
def test_leaks(hint: str, gold: str, leaks: bool) -> None:
    assert leaks_answer(hint, gold) is leaks


def test_what_is_graded_right_leaks() -> None:
    assert leaks_answer("two", "2", lambda answer, gold: answer == "two")
    assert not leaks_answer("", "2", lambda answer, gold: True)


@given(
    st.integers(-(10**6), 10**6),
    st.sampled_from(["", "so", "1,000", "3.5 $", "a-"]),
    st.sampled_from(["", ".", "km", ", 7"]),
)
def test_a_number_that_stands_alone_leaks(gold: int, left: str, right: str) -> None:
    assert leaks_answer(f"{left} {gold}{right}", str(gold))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("1+23=4", [1, 2, 4, 5]),
        ("a bc", [1, 2]),
        ("3.5 or", [3, 4]),
        ("is 5.", [2, 3, 4]),
        ("x $a+b$ y", [1, 2, 7, 8]),
        ("a \\frac{1}{2} b", [1, 2, 13, 14]),
        ("pay $5 now", [3, 4, 5, 6, 7]),
        ("so \\(a+b\\) =", [2, 3, 10, 11]),
    ],
)
def test_places_to_cut(text: str, places: list[int]) -> None:
    assert [place for place in range(len(text) + 1) if may_cut(text, place)] == places


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=8), st.floats(0.05, 0.95))
def test_a_cut_keeps_numbers_whole(numbers: list[int], share: float) -> None:
    solution = "+".join(map(str, numbers))
    prefix = cut_solution(Characters(), solution, share)
    if prefix is None:
        assert int(share * len(solution)) < len(str(numbers[0]))
        return
    assert solution.startswith(prefix.text)
    assert len(prefix.ids) <= share * len(solution)
    assert set(map(int, filter(None, prefix.text.split("+")))) <= set(numbers)


def test_the_white_space_after_a_cut_is_graded() -> None:
    prefix = cut_solution(Characters(), "one two three", 0.3)
    assert prefix is not None
    assert (len(prefix.ids), prefix.text) == (3, "one ")


def ask(kind: HintKind, hints: dict[str, str], context: int | None = None, **how: Any) -> Any:
    questions = load_questions("arithmetic", count=20)
    return ask_with_hints(kind, questions, hints, [PromptReader(Characters(), context)] * 2, Prompting(), 10, **how)


def test_an_empty_hint_asks_the_same() -> None:
    """Same questions, prompts and name, and so the same cached answers."""
    questions = load_questions("arithmetic", count=20)
    asked = ask(PLAN, {question.id: "" for question in questions.questions})
    assert asked.questions == questions
    assert list(asked.prompts[0]) == Prompting().prompts(Characters(), [each.text for each in questions.questions])


def test_questions_are_left_out_with_a_count() -> None:
    questions = load_questions("arithmetic", count=20).questions
    hints = {question.id: "think" for question in questions[:15]}
    hints[questions[0].id] = f"it is {questions[0].gold}"
    asked = ask(KNOWLEDGE, hints)
    assert dict(asked.left_out) == {LEAKS: 1, NO_HINT: 5}
    assert [question.id for question in asked.questions.questions] == [question.id for question in questions[1:15]]
    assert asked.questions.questions[0].text == questions[1].text + "\n\nthink"
    assert ask(KNOWLEDGE, hints, context=15).left_out[NO_ROOM] == 14
    assert ask(PREFIXES[0], {questions[0].id: "wordsthatgoon"}).left_out == {NO_CUT: 1, NO_HINT: 19}
    leaky = {questions[0].id: f"{questions[0].gold} is what comes out of it"}
    assert ask(PREFIXES[1], leaky).left_out == {LEAKS: 1, NO_HINT: 19}


def test_a_prefix_is_forced_and_graded() -> None:
    questions = load_questions("arithmetic", count=20)
    hints = {key: each.solution or "" for key, each in written_hints(questions).items()}
    asked = ask(PREFIXES[1], hints, separator="")
    first, solution = asked.questions.questions[0], hints[questions.questions[0].id]
    text = Characters().decode(asked.prompts[0][0])
    forced = text.removeprefix(first.text)
    assert solution.startswith(forced)
    assert len(forced) in (9, 10)
    rest = solution.removeprefix(forced)
    assert grade_answer(asked.questions.grade, rest, first.gold).correct
    assert not grade_answer(asked.questions.grade, rest + "1", first.gold).correct
    assert asked.questions.grader != questions.grader


def test_a_failing_grader_says_why_after_a_prefix() -> None:
    def failing(answer: str, gold: str) -> bool:
        raise ValueError("broken")

    questions = load_questions("arithmetic", count=1)
    object.__setattr__(questions, "grade", failing)
    hints = {questions.questions[0].id: "a b c d e f"}
    asked = ask_with_hints(PREFIXES[1], questions, hints, [READER], Prompting(), 10)
    grade = grade_answer(asked.questions.grade, "x", asked.questions.questions[0].gold)
    assert (grade.correct, grade.problem) == (False, "RLCircuitsError: ValueError: broken")
    assert grade_exact("a", "a")


def graded(share: float, count: int = 60) -> Answers:
    """Return two answers to each question, of which this share of the questions is right."""
    return make_answers({f"q{index}": [index < share * count] * 2 for index in range(count)})


def test_no_hint_gains_nothing() -> None:
    before, after = graded(0.5), graded(0.7)
    for kind in KINDS:
        sign = hint_gain_sign(kind, (before, after), (before, after))
        assert (sign.before, sign.after, sign.change) == (0, 0, 0)
        assert sign.outcome in ("no alarm", "reported")


@settings(max_examples=25)  # each draws a bootstrap
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=2, max_size=8))
def test_the_sign_is_a_difference_of_differences(grades: list[list[bool]]) -> None:
    sides = [make_answers({f"q{i}": [row[side]] for i, row in enumerate(grades)}) for side in range(4)]
    sign = hint_gain_sign(KNOWLEDGE, (sides[0], sides[1]), (sides[2], sides[3]))
    accuracies = [side.accuracy for side in sides]
    expected = (accuracies[3] - accuracies[1]) - (accuracies[2] - accuracies[0])
    assert sign.change == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "plain", "hinted", "outcome"),
    [
        (PREFIXES[1], (0.5, 0.5), (0.9, 0.6), "trouble"),  # only its own beginnings are finished
        (PREFIXES[1], (0.5, 0.9), (0.9, 0.95), "reported"),  # less was left to gain
        (PREFIXES[1], (0.5, 0.5), (0.9, 0.9), "no alarm"),
        (PLAN, (0.6, 0.6), (0.6, 0.3), "trouble"),
        (PLAN, (0.6, 0.6), (0.6, 0.58), "no alarm"),
        (PLAN, (0.6, 0.6), (0.1, 0.3), "no alarm"),  # training made a bad thing better
        (KNOWLEDGE, (0.6, 0.6), (0.9, 0.3), "reported"),
    ],
)
def test_when_a_gain_is_trouble(
    kind: HintKind, plain: tuple[float, float], hinted: tuple[float, float], outcome: str
) -> None:
    sign = hint_gain_sign(
        kind, (graded(plain[0]), graded(plain[1])), (graded(hinted[0]), graded(hinted[1])), {LEAKS: 3}
    )
    assert sign.outcome == outcome
    assert f"3 left out: {LEAKS}" in sign.note


def test_questions_in_common_are_needed() -> None:
    other = make_answers({"x": [True]})
    sign = hint_gain_sign(PLAN, (graded(0.5), graded(0.5)), (other, other))
    assert sign.outcome == "not measurable"


@pytest.mark.parametrize("steps", [2, 3])
def test_independent_steps_multiply(steps: int) -> None:
    """Accuracy is 0.95 to the power of the steps: 0.9025, 0.857. The steps tell 0.95 from the texts."""
    rng = np.random.default_rng(steps)
    drawn = rng.random((4000, steps)) < 0.95
    texts = [";".join(f"1+1={2 if right else 3}" for right in row) for row in drawn]
    read = [read_steps(text) for text in texts]
    assert np.mean([np.mean(each) for each in read]) == pytest.approx(0.95, abs=0.01)
    assert np.mean([all(each) for each in read]) == pytest.approx(0.95**steps, abs=0.02)
