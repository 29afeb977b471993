"""Test question sets from files and from the hub: reading, drawing, and one clear error for each fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.paths import SHARED_DATA
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import QuestionSource, load_questions
from rlcircuits.questions.grading.reading.reference_answer import GoldForm, boxes, extract_reference_answer
from rlcircuits.questions.records import draw
from rlcircuits.questions.source import PUBLISHED
from rlcircuits.release.pair import AskedQuestions, Pair

SHARED = SHARED_DATA
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the original files are not at {SHARED}")


def write(folder: Path, *records: Mapping[str, object] | str, name: str = "questions.jsonl") -> Path:
    file = folder / name
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return file


def test_a_published_set_needs_its_file_alone(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {"question": "How many?", "answer": "5 + 4 = <<5+4=9>>9\n#### 9", "idx": 0},
        {"question": "How much?", "answer": "#### no\n#### 1,234 "},
    )
    questions = load_questions(QuestionSource(name="gsm8k", file=file)).questions
    assert [(q.id, q.text, q.gold) for q in questions] == [("1", "How many?", "9"), ("2", "How much?", "1,234")]

    file = write(tmp_path, {"problem": "P", "solution": r"So $\boxed{1}$, then $\boxed{\frac{1}{2}}$.", "level": "5"})
    assert load_questions(QuestionSource(name="math", file=file)).questions[0].gold == r"\frac{1}{2}"

    file = write(tmp_path, {"problem": "P", "solution": "S", "answer": "p - q", "unique_id": "test/algebra/7.json"})
    question = load_questions(QuestionSource(name="math500", file=file)).questions[0]
    assert (question.id, question.text, question.gold) == ("test/algebra/7.json", "P", "p - q")

    file = write(tmp_path, {"data_source": "x", "question_number": "1.2", "question": "Q", "answer": "$10-4 n$"})
    assert load_questions(QuestionSource(name="college_math", file=file)).questions[0].gold == "$10-4 n$"


def test_a_set_of_ones_own_names_its_fields(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {"frage": "Wie viele? – π", "loesung": r"\boxed{7}", "nr": 3},
        {"frage": "?", "loesung": "\\fbox 8", "nr": 1},
    )
    source = QuestionSource(
        name="eigene", file=file, question="frage", answer="loesung", id="nr", gold="boxed", grader="exact", split="dev"
    )
    questions = load_questions(source)
    assert (questions.name, questions.split) == ("eigene", "dev")
    assert [(q.id, q.text, q.gold) for q in questions.questions] == [("3", "Wie viele? – π", "7"), ("1", "?", "8")]
    assert questions.grade("The answer is 7.", "7")
    assert not questions.grade("The answer is 7.0", "7")


def test_the_sources_split_goes_before_the_loaders(tmp_path: Path) -> None:
    file = write(tmp_path, {"question": "Q", "answer": "A"})
    assert load_questions(QuestionSource(name="mine", file=file), split="dev").split == "dev"
    assert load_questions(QuestionSource(name="mine", file=file, split="old"), split="dev").split == "old"
    drawn = load_questions(QuestionSource(name="arithmetic", split="dev"), split="test", count=3)
    assert drawn == load_questions("arithmetic", split="dev", count=3)


@given(st.integers(1, 40), st.integers(0, 2**32), st.data())
def test_draws_without_replacement_and_a_smaller_count_is_a_prefix(size: int, seed: int, data: st.DataObject) -> None:
    items = range(size)
    many = draw(items, size, seed, of="it")
    assert sorted(many) == list(items)
    count = data.draw(st.integers(1, size))
    assert draw(items, count, seed, of="it") == many[:count]


def test_draws_stay_the_same_for_good() -> None:
    # Runs with different counts are compared on the questions that they share.
    assert draw(range(1319), 6, 42, of="it") == (843, 33, 364, 296, 972, 894)


def test_draws_from_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, *({"question": f"Q{n}", "answer": str(n)} for n in range(20)))
    source = QuestionSource(name="mine", file=file)
    eight = load_questions(source, count=8, seed=1).questions
    assert len({q.id for q in eight}) == 8
    assert load_questions(source, count=3, seed=1).questions == eight[:3]
    assert load_questions(source, count=8, seed=2).questions != eight
    assert all(q.text == f"Q{q.row}" for q in eight)
    assert all(q.id == str((q.row or 0) + 1) for q in eight)
    message = r"count of questions is 21, but .*questions.jsonl has 20; lower question_count \(--question-count\)"
    with pytest.raises(RLCircuitsError, match=message):
        load_questions(source, count=21)
    with pytest.raises(RLCircuitsError, match="count of questions is 0; at least 1 is wanted"):
        load_questions(source, count=0)


GOOD = {"question": "Q", "answer": "#### 5", "id": "a"}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ((GOOD, '{"question": "Q", "ans'), r"questions\.jsonl:2: it is no JSON: .*column"),
        ((GOOD, ""), r"questions\.jsonl:2: it is no JSON: Expecting value at column 1"),
        ((GOOD, '["Q", "5"]'), r"questions\.jsonl:2: found a list; a JSON object is wanted"),
        (({"problem": "Q", "answer": "#### 5"},), r":1: field 'question' is missing; there are problem, answer$"),
        ((GOOD, {"question": "Q", "id": "b"}), r":2: field 'answer' is missing; there are question, id$"),
        ((GOOD, {"question": 5, "answer": "A"}), r":2: field 'id' is missing"),
        (({"question": 5, "answer": "#### 5"},), r":1: field 'question': found a number; a text is wanted"),
        (({"question": "Q", "answer": None},), r":1: field 'answer': found null; a text is wanted"),
        (({"question": "Q", "answer": 5},), r":1: field 'answer': found a number; a text is wanted"),
        (({"question": " \n", "answer": "#### 5"},), r":1: field 'question' is empty"),
        (({"question": "Q", "answer": ""},), r":1: field 'answer' is empty"),
        (({"question": "Q", "answer": "5"},), r":1: field 'answer': no gold answer in it; '####' and an answer"),
        (({"question": "Q", "answer": "#### "},), r":1: field 'answer': no gold answer in it; '####' and an answer"),
        (
            (GOOD, {**GOOD, "id": "b"}, GOOD),
            r":3: field 'id': 'a' is the id of .*questions\.jsonl:1 too; ids must differ",
        ),
        (('{"question": "\\ud800", "answer": "#### 5"}',), r":1: field 'question' holds half a character"),
        ((GOOD, {**GOOD, "id": True}), r":2: field 'id': found a truth value; a text is wanted"),
        ((), r"questions\.jsonl: it is empty; questions are wanted, one JSON object a line"),
    ],
)
def test_one_clear_error_for_a_bad_file(
    tmp_path: Path, records: tuple[dict[str, object] | str, ...], message: str
) -> None:
    source = QuestionSource(name="gsm8k", file=write(tmp_path, *records))
    with pytest.raises(RLCircuitsError, match=message) as raised:
        load_questions(source)
    assert "\n" not in str(raised.value)


def test_a_file_without_its_last_newline_or_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"question": "Q", "answer": "1"}\r\n{"question": "R", "answer": "2"}')
    assert [q.gold for q in load_questions(QuestionSource(name="mine", file=file)).questions] == ["1", "2"]


def test_bytes_that_are_not_utf_8_are_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes(b'{"question": "Q", "answer": "1"}\n{"question": "\xe4", "answer": "1"}\n')
    with pytest.raises(RLCircuitsError, match=r"q\.jsonl:2: it is not UTF-8: .* at byte 14"):
        load_questions(QuestionSource(name="mine", file=file))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "figures/3.png"),
        ("images", [{"bytes": "iVBORw0KGgo="}]),
        ("image_1", {"path": "3.png"}),
        ("decoded_image", "iVBORw0KGgo="),
        ("Video", "clip.mp4"),
    ],
)
def test_a_question_with_an_image_is_not_asked_without_it(field: str, value: object, tmp_path: Path) -> None:
    plain = {"question": "How many?", "answer": "9", "image_count": 0}
    file = write(tmp_path, {**plain, field: None}, {**plain, "question": "How much?", field: value})
    with pytest.raises(RLCircuitsError, match=rf":2: field '{field}' holds an image, .*as text alone; leave such"):
        load_questions(QuestionSource(name="own", file=file))
    for empty in (None, "", [], {}, 0, False):
        assert len(load_questions(QuestionSource(name="own", file=write(tmp_path, {**plain, field: empty})))) == 1
    described = {"image": "A red square.", "answer": "4"}
    source = QuestionSource(name="own", file=write(tmp_path, described), question="image")
    assert load_questions(source).questions[0].text == "A red square."


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"gone\.jsonl: cannot be read as questions: No such file"):
        load_questions(QuestionSource(name="mine", file=tmp_path / "gone.jsonl"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "gsm9k"}, r"'gsm9k' is not known and has no file; known: arithmetic, .*gsm8k"),
        ({"name": "gsm8k", "fiel": "x.jsonl"}, "Extra inputs are not permitted"),
        ({"name": "a/b", "file": "x.jsonl"}, "names files too"),
        ({"name": "gsm8k", "grader": "maths"}, r"'maths' is no grader; 'math', 'exact' or 'module:function'"),
        ({"name": "gsm8k", "gold": "last"}, "'hash', 'boxed' or 'plain'"),
        ({"name": "gsm8k", "file": "x.jsonl", "revision": "main"}, "a file has no revision"),
        ({"name": "arithmetic", "file": "x.jsonl"}, "'arithmetic' is built in and takes no file"),
        ({"name": "mine", "file": "x.jsonl", "question": ""}, "at least 1 character"),
    ],
)
def test_a_source_that_cannot_be_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuestionSource.model_validate(fields)


def test_a_source_made_by_hand_is_refused_in_our_words() -> None:
    for fields, message in (
        ({"name": "gsm9k"}, "QuestionSource: question set 'gsm9k' is not known and has no file; known: arithmetic, "),
        ({"name": "gsm8k", "fiel": "x.jsonl"}, "QuestionSource, key 'fiel': unknown; known keys are name, file, "),
        ({"name": "gsm8k", "gold": "last"}, "QuestionSource, key 'gold': must be one of 'hash', 'boxed', 'plain'"),
        ({}, "QuestionSource, key 'name': missing"),
    ):
        with pytest.raises(RLCircuitsError, match=f"^{message}"):
            QuestionSource(**fields)  # type: ignore[arg-type]
    with pytest.raises(RLCircuitsError, match=r"^AskedQuestions, key 'count': "):
        AskedQuestions(name="gsm8k", count=0)
    with pytest.raises(RLCircuitsError, match=r"^Pair, key 'questions\.gold': must be one of"):
        Pair(name="x", before="a", after="b", algorithm="grpo", questions={"name": "gsm8k", "gold": "last"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        (r"\boxed{1}", ["1"]),
        (r"$\boxed{\frac{1}{2}}$ and $\fbox{\sqrt{x^{2}}}$", [r"\frac{1}{2}", r"\sqrt{x^{2}}"]),
        (r"\boxed{\{1, 2\}}", [r"\{1, 2\}"]),
        (r"\boxed{ \text{a \boxed{b} c} }", [r"\text{a \boxed{b} c}"]),
        (r"$\boxed 5$, \boxed  7 apples", ["5", "7"]),
        (r"\boxed{1} \boxed{2", ["1"]),
        (r"\boxedx{1} boxed{2}", []),
    ],
)
def test_boxes(text: str, contents: list[str]) -> None:
    assert [box.content for box in boxes(text)] == contents
    assert [text[box.start] for box in boxes(text)] == ["\\"] * len(contents)


@given(
    st.recursive(
        st.sampled_from(["x", "1", r"\{", r"\}", r"\\", " "]),
        lambda inner: inner.map(lambda s: f"{{{s}}}") | st.tuples(inner, inner).map("".join),
    )
)
def test_whatever_stands_in_a_box_comes_out(content: str) -> None:
    assert boxes(rf"We get \boxed{{{content}}} and {{more}}.")[0].content == content.strip()


def test_a_gold_answer_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"no gold answer in it; an answer in a closed \\boxed\{\} is wanted"):
        extract_reference_answer("boxed", r"so \boxed{5")


@pytest.mark.parametrize(
    ("solution", "form", "known"),
    [("5 + 4 = <<5+4=9>>9\n#### 9", "hash", "gsm8k"), (r"So there are $\boxed{9}$.", "boxed", "math")],
)
def test_a_solution_is_not_taken_for_the_answer_alone(
    tmp_path: Path, solution: str, form: GoldForm, known: str
) -> None:
    """Every answer would be graded as wrong, after hours of generation."""
    file = write(tmp_path, {"question": "Q", "answer": solution})
    with pytest.raises(
        RLCircuitsError,
        match=rf"questions\.jsonl:1: field 'answer' is a solution that ends with the answer '9', .* write gold = "
        rf'"{form}" in the table \[\[questions\]\] of a pairs file; the set \'{known}\' has that already',
    ):
        load_questions(QuestionSource(name="mine", file=file))
    assert load_questions(QuestionSource(name="mine", file=file, gold=form)).questions[0].gold == "9"
    # A grader of one's own may want the whole solution.
    assert load_questions(QuestionSource(name="mine", file=file, grader="exact")).questions[0].gold == solution


@pytest.mark.parametrize("answer", ["#### 9", r"\boxed{9}", r"$x = \boxed{9}$", "nine hundred", "9 ####"])
def test_an_answer_alone_may_be_marked(tmp_path: Path, answer: str) -> None:
    file = write(tmp_path, {"question": "Q", "answer": answer})
    assert load_questions(QuestionSource(name="mine", file=file)).questions[0].gold == answer


def test_without_the_hub_the_error_says_what_to_do() -> None:
    with pytest.raises(
        RLCircuitsError,
        match=r"'gsm8k': split 'test' of the dataset openai/gsm8k cannot be loaded \(.*"
        r'\[\[questions\]\] with name = "gsm8k" and file = "FILE\.jsonl", in Python QuestionSource\(name=.gsm8k.',
    ) as raised:
        load_questions("gsm8k")
    assert "\n" not in str(raised.value)


def test_without_datasets_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        RLCircuitsError, match="datasets, which is not installed; pip install datasets, or give the set's file"
    ):
        load_questions("math500")


def test_a_dataset_is_read_as_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    records = [{"question": f"Q{n}?", "answer": f"so\n#### {n}"} for n in range(5)]
    (tmp_path / "set").mkdir()
    file = write(tmp_path / "set", *records, name="test.jsonl")
    monkeypatch.setitem(PUBLISHED, "gsm8k", replace(PUBLISHED["gsm8k"], dataset=str(tmp_path / "set"), config=None))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    from_hub = load_questions("gsm8k", count=4)
    from_file = load_questions(QuestionSource(name="gsm8k", file=file), count=4)
    assert from_hub == from_file
    with pytest.raises(RLCircuitsError, match=r"split 'validation' of the dataset .* cannot be loaded"):
        load_questions("gsm8k", split="validation")


@needs_shared
@pytest.mark.parametrize(
    ("name", "file", "count", "first"),
    [
        ("gsm8k", "gsm8k_test.jsonl", 1319, ("1", "18")),
        ("math500", "math500_test.jsonl", 500, ("test/precalculus/807.json", r"\left( 3, \frac{\pi}{2} \right)")),
        ("college_math", "college_math_test.jsonl", 2818, ("1", "$10-4 n$")),
    ],
)
def test_the_original_files(name: str, file: str, count: int, first: tuple[str, str]) -> None:
    questions = load_questions(QuestionSource(name=name, file=SHARED / file)).questions
    assert len({question.id for question in questions}) == len(questions) == count
    assert (questions[0].id, questions[0].gold) == first
    assert not any("#" in question.gold for question in questions)


@needs_shared
def test_the_boxes_of_math_500_hold_its_answers() -> None:
    file = SHARED / "math500_test.jsonl"
    boxed = load_questions(QuestionSource(name="math", file=file)).questions
    plain = load_questions(QuestionSource(name="math500", file=file)).questions
    assert boxed == plain
