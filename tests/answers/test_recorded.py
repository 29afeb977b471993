"""Test recorded answers: files of any engine and of the study's authors, and errors for malformed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoints import MIXED, TOKENS, save_checkpoint, tiny_tokenizer

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.recorded import Side, recorded_answers
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import Question, QuestionSet, QuestionSource, load_questions
from rlcircuits.questions.grading.graders import grade_exact

SAMPLING = Sampling(max_new_tokens=5, seed=3)
QUESTIONS = replace(MIXED, grade=lambda text, gold: text < "j")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("model"))), device="cpu")


@pytest.fixture(scope="module")
def made(source: CheckpointSource) -> Answers:
    """Return answers that one of our engines generated."""
    return answer_questions(source, QUESTIONS, SAMPLING)


def read(path: Path, source: CheckpointSource, side: Side | None = None) -> Answers:
    return recorded_answers(path, source, QUESTIONS, sampling=SAMPLING, side=side)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def plain(made: Answers) -> list[dict[str, Any]]:
    return [
        {"question_id": a.question_id, "prompt_token_ids": a.prompt_ids, "completion_token_ids": a.answer_ids}
        for a in made.items
    ]


def with_outputs(made: Answers) -> list[dict[str, Any]]:
    """Lines as in vLLM's request outputs, with several samples each."""
    return [
        {
            "index": place,
            "prompt_token_ids": a.prompt_ids,
            "outputs": [
                {"token_ids": a.answer_ids, "finish_reason": "stop" if a.finished else "length"},
                {"token_ids": [5, 5, 5], "finish_reason": "length"},
            ],
        }
        for place, a in enumerate(made.items)
    ]


def of_the_harness(made: Answers) -> list[dict[str, Any]]:
    """Lines as the study's `math_eval.py` saves them."""
    return [
        {
            "idx": place, "question": question.text, "gt_cot": "", "gt": question.gold, "prompt": "…",
            "code": [a.text], "pred": ["83"], "report": [None], "score": [not a.correct],
            "prompt_token_ids": [a.prompt_ids], "generate_token_ids": [a.answer_ids],
        }
        for place, (question, a) in enumerate(zip(QUESTIONS.questions, made.items, strict=True))
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [plain, with_outputs, of_the_harness])
def test_answers_of_any_engine(
    tmp_path: Path, source: CheckpointSource, made: Answers, shape: Callable[[Answers], list[dict[str, Any]]]
) -> None:
    records = shape(made)
    wanted = replace(made, prompting=None)
    assert read(write(tmp_path / "a.jsonl", records), source) == wanted
    assert read(write(tmp_path / "b.jsonl", records[::-1]), source) == wanted
    assert {item.correct for item in made.items} == {True, False}


def test_a_file_that_leaves_questions_out_is_refused(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    """A file with only the correct answers would have an accuracy of 1, so missing questions are an error."""
    right = [record for record, item in zip(plain(made), made.items, strict=True) if item.correct]
    first = next(item.question_id for item in made.items if not item.correct)
    message = (
        rf"a\.jsonl: leaves out {7 - len(right)} of the 7 questions asked, the first is '{first}'; "
        "a question without an answer must be there with an empty answer"
    )
    with pytest.raises(RLCircuitsError, match=message):
        read(write(tmp_path / "a.jsonl", right), source)


def test_an_index_is_the_row_of_the_question_file(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    """A row selects its question even if the questions have ids and only some are asked, in another order."""
    file = write(
        tmp_path / "q.jsonl",
        [{"id": f"of{n}", "question": q.text, "answer": q.gold} for n, q in enumerate(QUESTIONS.questions)],
    )
    asked = load_questions(QuestionSource(name="few", file=file, grader="exact"), count=5)
    rows = [int(question.id.removeprefix("of")) for question in asked.questions]
    assert rows != sorted(rows)
    for shape in (with_outputs, of_the_harness):
        path = write(tmp_path / "a.jsonl", shape(made))
        found = recorded_answers(path, source, asked, sampling=SAMPLING)
        assert [item.answer_ids for item in found.items] == [made.items[row].answer_ids for row in rows]


def test_the_authors_file_of_a_pair(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    """Lines as the study's `datasets_prepare.ipynb` joins the outputs of two models."""
    records = []
    for place, (question, a) in enumerate(zip(QUESTIONS.questions, made.items, strict=True)):
        span = [len(a.prompt_ids), len(a.prompt_ids) + len(a.answer_ids)]
        records.append(
            {
                "idx": place, "question": question.text, "gt": question.gold, "solution": None,
                "base_prompt_tokens": a.prompt_ids, "base_answer_tokens": a.answer_ids,
                "base_answer_tokens_range": span, "base_pred": "1", "base_score": True,
                "rl_prompt_tokens": a.prompt_ids, "rl_answer_tokens": a.answer_ids[:2],
                "rl_answer_tokens_range": span, "rl_pred": "1", "rl_score": True,
            }
        )  # fmt: skip
    path = write(tmp_path / "all_correct.jsonl", records)
    assert read(path, source, side="before").items == made.items
    assert [item.answer_ids for item in read(path, source, side="after").items] == [
        item.answer_ids[:2] for item in made.items
    ]
    # The file itself is the question set, since it holds only some of the questions.
    part = write(tmp_path / "part.jsonl", records[1::2])
    asked = load_questions(QuestionSource(name="part", file=part, answer="gt", grader="exact"), count=3)
    found = recorded_answers(part, source, asked, sampling=SAMPLING, side="before").items
    assert {item.answer_ids for item in found} == {item.answer_ids for item in made.items[1::2]}
    with pytest.raises(
        RLCircuitsError, match=r"all_correct\.jsonl:1: holds answers of two models; side must say which"
    ):
        read(path, source)
    with pytest.raises(RLCircuitsError, match="side is 'left'; it must be before or after"):
        read(path, source, side="left")  # type: ignore[arg-type]


def test_questions_that_share_a_text_need_their_place(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    twins = replace(QUESTIONS, questions=(*QUESTIONS.questions, Question("twin", QUESTIONS.questions[0].text, "84")))
    first = made.items[0]
    record = {"question": twins.questions[0].text, "prompt_token_ids": first.prompt_ids, "outputs": [first.answer_ids]}
    records = [record | {"idx": 7}, record | {"idx": 0}, record | {"idx": 3}]
    path = write(tmp_path / "a.jsonl", [*records, *plain(made)[1:]])
    found = recorded_answers(path, source, twins, sampling=SAMPLING)
    assert [item.question_id for item in found.items] == [question.id for question in twins.questions]


def test_lines_of_other_questions_are_passed_over(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    records = plain(made)
    others = [records[0] | {"question_id": "q77"}, records[0] | {"question": "1+2+3+4?"}]
    assert read(write(tmp_path / "a.jsonl", [*others, *records]), source).items == made.items
    with pytest.raises(RLCircuitsError, match=r"b\.jsonl: none of its 2 lines answers a question of 'few'"):
        read(write(tmp_path / "b.jsonl", others), source)


def test_an_answer_may_be_empty(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    first, *rest = plain(made)
    path = write(tmp_path / "a.jsonl", [first | {"completion_token_ids": []}, *rest])
    item = recorded_answers(path, source, replace(QUESTIONS, grade=grade_exact), sampling=SAMPLING).items[0]
    assert (item.answer_ids, item.text, item.finished, item.correct) == ((), "", False, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_token_ids": "1 2"}, "field 'prompt_token_ids' holds a text; a list of"),
        ({"prompt_token_ids": []}, "field 'prompt_token_ids' is empty"),
        ({"prompt_token_ids": [1, 2.0]}, r"field 'prompt_token_ids' has 2\.0 at position 1; a token id is wanted"),
        ({"completion_token_ids": [1, True]}, "field 'completion_token_ids' has True at position 1"),
        (
            {"prompt_token_ids": [1, len(TOKENS)]},
            f"field 'prompt_token_ids' has token id {len(TOKENS)} at position 1, outside the tokenizer's vocabulary",
        ),
        ({"completion_token_ids": [-1]}, "field 'completion_token_ids' has token id -1 at position 0"),
        ({"completion_token_ids": [{"text": "1"}]}, "field 'completion_token_ids' holds null; a list of"),
        ({"question_id": 1.5}, r"field 'question_id' is 1\.5; a question's id is wanted"),
        ({"question_id": "q0"}, "question 'q0' was already answered on line 1"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(
    tmp_path: Path, source: CheckpointSource, made: Answers, change: dict[str, Any], message: str
) -> None:
    first, second, *rest = plain(made)
    path = write(tmp_path / "a.jsonl", [first, second | change, *rest])
    with pytest.raises(RLCircuitsError, match=rf"a\.jsonl:2: {message}"):
        read(path, source)


@pytest.mark.parametrize("missing", ["question_id", "prompt_token_ids", "completion_token_ids"])
def test_a_missing_field_is_named_with_its_line(
    tmp_path: Path, source: CheckpointSource, made: Answers, missing: str
) -> None:
    records = plain(made)
    del records[2][missing]
    with pytest.raises(RLCircuitsError, match=rf"a\.jsonl:3: has none of the fields .*{missing}"):
        read(write(tmp_path / "a.jsonl", records), source)


def test_files_that_are_no_records(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    path = write(tmp_path / "a.jsonl", plain(made))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:30] + "\n", *lines[2:]]))
    with pytest.raises(RLCircuitsError, match=r"a\.jsonl:2: it is no JSON: "):
        read(path, source)
    path.write_text("[1]\n")
    with pytest.raises(RLCircuitsError, match=r"a\.jsonl:1: found a list; a JSON object is wanted"):
        read(path, source)
    path.write_text("\n")
    with pytest.raises(RLCircuitsError, match=r"a\.jsonl: it is empty"):
        read(path, source)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RLCircuitsError, match=r"a\.jsonl:1: it is not UTF-8"):
        read(path, source)
    with pytest.raises(RLCircuitsError, match=r"none\.jsonl: cannot be read as recorded answers"):
        read(tmp_path / "none.jsonl", source)


def test_one_model_s_answers_do_not_stand_for_two(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    path = write(tmp_path / "a.jsonl", plain(made))
    wanted = r"a\.jsonl:1: holds answers of one model; one file for both has the fields base_prompt_tokens, .*rl_answer"
    with pytest.raises(RLCircuitsError, match=wanted):
        recorded_answers(path, source, QUESTIONS, sampling=SAMPLING, side="after")


def test_token_ids_of_another_vocabulary(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    path = write(tmp_path / "a.jsonl", plain(made))
    tiny_tokenizer((*TOKENS[:3], *TOKENS[:2:-1])).save_pretrained(tmp_path / "other")
    with pytest.raises(
        RLCircuitsError, match=r"a\.jsonl: 7 of 7 prompts do not hold their question's text, so the token"
    ):
        read(path, CheckpointSource(str(tmp_path / "other")))


def test_answers_to_other_questions(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    path = write(tmp_path / "a.jsonl", plain(made))
    others = QuestionSet(
        "others", "test", tuple(Question(f"q{n}", f"{n}-{n}?", "0") for n in range(7)), QUESTIONS.grade
    )
    with pytest.raises(RLCircuitsError, match="or the questions are others; that of 'q0' reads '"):
        recorded_answers(path, source, others, sampling=SAMPLING)
