"""Test graders: by name, in a subprocess, and with failures that concern one answer only."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import Grade, Question, QuestionSet, QuestionSource, grade_all, load_questions
from rlcircuits.questions.grading.graders import grade_exact, grader
from rlcircuits.questions.grading.subprocess_grader import SubprocessGrader

GRADERS = """
import os, signal, sys, time

def right(text, gold):
    print("graders may print")
    if text == "hang":
        while True:
            pass
    if text == "sleep":
        time.sleep(1000)
    if text == "exit":
        os._exit(3)
    if text == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if text == "raise":
        raise KeyError("no such thing")
    if text == "leave":
        sys.exit()
    if text == "deep":
        return right_below(0)
    if text == "memory":
        kept = []
        while True:
            kept.append(bytearray(2**20))
    if text == "words":
        return "yes"
    if text == "numpy":
        import numpy
        return numpy.bool_(True)
    return text == gold

def right_below(depth):
    return right_below(depth + 1)

class Nested:
    @staticmethod
    def right(text, gold):
        return True

number = 5
"""


@pytest.fixture
def graders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_graders.py").write_text(GRADERS)
    (tmp_path / "broken_grader.py").write_text("import nothing_of_that_name")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own(graders: Path) -> Iterator[SubprocessGrader]:
    grader = SubprocessGrader("own_graders:right", time_limit=0.4, memory_limit=2**26)
    yield grader
    grader.close()


def asked(grade: object, *golds: str) -> QuestionSet:
    questions = tuple(Question(id=str(place), text="?", gold=gold) for place, gold in enumerate(golds))
    return QuestionSet("made up", "test", questions, grade)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hang", "the grader took more than 0.4 s of processor time and was ended"),
        ("sleep", "the grader gave no answer in 4 s and was ended"),
        ("exit", "the grader's process died with exit code 3"),
        ("crash", "the grader's process died with signal 11"),
        ("raise", "KeyError: 'no such thing'"),
        ("leave", "SystemExit"),
        ("deep", "RecursionError: maximum recursion depth exceeded"),
        ("memory", "the grader took more than 0.0625 GiB of memory and was ended"),
        ("words", "the grader returned 'yes'; True or False is wanted"),
    ],
)
def test_a_failure_marks_its_answer_and_no_other(own: SubprocessGrader, text: str, problem: str) -> None:
    grades = grade_all(asked(own, "5", "5", "5", "5"), ["5", text, "6", "5"])
    assert [grades[0], *grades[2:]] == [Grade(True), Grade(False), Grade(True)]
    assert not grades[1].correct
    assert grades[1].problem == problem


def test_truth_values_of_numpy_are_fine(own: SubprocessGrader) -> None:
    assert own.grade("numpy", "") == Grade(True)
    assert own("5", "5")
    assert not own("6", "5")


def test_text_arrives_as_it_is(own: SubprocessGrader) -> None:
    for text in ("a\nb\r\n", "\u2028 – π \x00", "\ud800", '"}{', ""):
        assert own(text, text)
        assert not own(text, text + "x")


def test_grades_from_another_thread(graders: Path) -> None:
    grades: list[Grade] = []
    questions = asked(grader("math"), "0.5", "0.5")
    thread = threading.Thread(target=lambda: grades.extend(grade_all(questions, [r"\boxed{\frac12}", "5"])))
    thread.start()
    thread.join()
    assert grades == [Grade(True), Grade(False)]


def test_an_answer_sympy_would_work_on_for_ever_is_given_up() -> None:
    math = SubprocessGrader("math", time_limit=1.5)
    grades = grade_all(asked(math, "5", "5"), ["The answer is $9^{9^{9^{9}}}+1$.", "The answer is 5."])
    math.close()
    assert grades[0].problem == "the grader took more than 1.5 s of processor time and was ended"
    assert grades[1] == Grade(True)


def test_a_grader_of_ones_own_is_found_in_the_current_directory(graders: Path) -> None:
    (graders / "q.jsonl").write_text('{"question": "Q", "answer": "5"}\n{"question": "R", "answer": "6"}\n')
    questions = load_questions(QuestionSource(name="mine", file=Path("q.jsonl"), grader="own_graders:right"))
    assert grade_all(questions, ["5", "5"]) == [Grade(True), Grade(False)]
    nested = load_questions(QuestionSource(name="mine", file=Path("q.jsonl"), grader="own_graders:Nested.right"))
    assert grade_all(nested, ["5", "5"]) == [Grade(True), Grade(True)]


def test_an_edited_grader_of_ones_own_is_another(graders: Path) -> None:
    (graders / "q.jsonl").write_text('{"question": "Q", "answer": "5"}\n')
    (graders / "edited.py").write_text("def right(text, gold): return text == gold")
    source = QuestionSource(name="mine", file=Path("q.jsonl"), grader="edited:right")
    first = load_questions(source)
    digest = hashlib.sha256((graders / "edited.py").read_bytes()).hexdigest()
    name = first.grader
    assert name == f"rlcircuits.questions.isolated:edited:right sha256:{digest}"
    assert load_questions(source).grader == name
    assert grade_all(first, ["5"]) == [Grade(True)]
    # Within one process, too, the identity and the grades belong to the same code.
    (graders / "edited.py").write_text("def right(text, gold): return False")
    assert first.grader == name
    second = load_questions(source)
    assert second.grader != name
    assert grade_all(second, ["5"]) == [Grade(False)]


def test_graders_that_come_with_rlcircuits_are_known_by_name() -> None:
    assert (
        asked(grader("math"), "5").grader
        == f"rlcircuits.questions.isolated:math 2, math-verify {version('math-verify')}"
    )
    assert asked(grader("exact"), "5").grader == "rlcircuits.questions.exact:exact 2"
    assert load_questions("arithmetic", count=1).grader == "rlcircuits.questions.arithmetic:grade"
    assert load_questions("equations", count=1).grader == "rlcircuits.questions.arithmetic:grade"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_module:right",
            "grader 'no_such_module:right': module 'no_such_module' cannot be imported: ModuleNotF",
        ),
        ("broken_grader:right", "'broken_grader' cannot be imported: .*No module named 'nothing_of_that_name'"),
        ("own_graders:wrong", r"own_graders\.py has no 'wrong'"),
        ("own_graders:number", "'number' of module 'own_graders' is no function but 5"),
    ],
)
def test_a_grader_that_cannot_be_imported_is_one_clear_error(graders: Path, name: str, message: str) -> None:
    (graders / "q.jsonl").write_text('{"question": "Q", "answer": "5"}\n')
    with pytest.raises(RLCircuitsError, match=message):
        load_questions(QuestionSource(name="mine", file=Path("q.jsonl"), grader=name))


def test_a_script_without_a_main_guard_is_not_run_again(graders: Path) -> None:
    script = graders / "folder" / "script.py"
    script.parent.mkdir()
    (script.parent / "beside.py").write_text("def right(text, gold): return text == gold")
    script.write_text(
        "from rlcircuits.questions.grading.graders import grader\n"
        "print('once', grader('math')('1/2', '0.5'), grader('beside:right')('5', '6'))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("once True False\n", "")


def test_a_plain_function_that_raises_marks_its_answer() -> None:
    def fragile(text: str, gold: str) -> bool:
        return 1 / int(text) == 1 / int(gold)

    grades = grade_all(asked(fragile, "5", "5", "5"), ["5", "0", "6"])
    assert grades == [Grade(True), Grade(False, "ZeroDivisionError: division by zero"), Grade(False)]


def test_as_many_texts_as_questions() -> None:
    with pytest.raises(RLCircuitsError, match="found 1 answers to 2 questions; one each is wanted"):
        grade_all(asked(grade_exact, "5", "6"), ["5"])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        (" B\n", True),
        ("The answer is B.", True),
        ("First A seems right.\nAnswer: **B**", True),
        (r"So it is $\boxed{B}$.", True),
        ("#### B", True),
        ("b", False),
        ("A or B", False),
        ("The answer is BB.", False),
        ("", False),
    ],
)
def test_exact(text: str, right: bool) -> None:
    assert grade_exact(text, "B") is right


def test_the_built_in_sets_grade_through_the_same_function() -> None:
    questions = load_questions("arithmetic", count=2)
    texts = [f"1+1=2>{questions.questions[0].gold}", "1+1"]
    assert grade_all(questions, texts) == [Grade(True), Grade(False)]
