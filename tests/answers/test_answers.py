"""Test answer_questions on a shipped base checkpoint: prompts, generation, grading and saving."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import SEED_7
from helpers.tiny_checkpoints import tiny_tokenizer
from helpers.tiny_models import build
from transformers import GenerationConfig

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.checkpoints.checkpoint import Checkpoint
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import Question, QuestionSet, load_questions

BASE = SEED_7 / "sft"
GREEDY = Sampling(temperature=0.0, max_new_tokens=30)
SAMPLED = Sampling(max_new_tokens=30, seed=3)


@pytest.fixture(scope="module")
def base() -> Checkpoint:
    return Checkpoint.load(BASE, device="cpu")


def question_set(*texts: str) -> QuestionSet:
    questions = tuple(Question(id=f"q{number}", text=text, gold="83") for number, text in enumerate(texts))
    return QuestionSet("few", "test", questions, load_questions("arithmetic", count=1).grade)


MIXED = question_set("41+30+12?", "1?", "41+30?", "99+98+97+96?", "7+8?", "12+30+41?", "5+50+500?")


def with_tokenizer(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    tokenizer = copy.deepcopy(checkpoint.tokenizer)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return Checkpoint(checkpoint.model, tokenizer=tokenizer, name="changed")


def test_greedy_answers_are_right_and_complete(base: Checkpoint) -> None:
    questions = load_questions("arithmetic", split="test", count=40)
    answers = answer_questions(base, questions, GREEDY)
    assert answers.accuracy >= 0.95
    assert [item.question_id for item in answers.items] == [question.id for question in questions.questions]
    tokenizer = base.tokenizer
    for item, question in zip(answers.items, questions.questions, strict=True):
        assert item.prompt_ids == tuple(tokenizer(question.text).input_ids)
        assert item.finished
        assert item.answer_ids[-1] == tokenizer.eos_token_id
        assert tokenizer.pad_token_id not in item.answer_ids
        assert item.text == "".join(tokenizer.convert_ids_to_tokens(item.answer_ids[:-1]))
        assert item.correct == item.text.endswith(f">{question.gold}")


def test_greedy_answers_do_not_depend_on_the_batch(base: Checkpoint) -> None:
    """With prompts of many lengths, padding and the other prompts of a batch must not change an answer."""
    alone = answer_questions(base, MIXED, GREEDY, batch_size=1)
    assert {len(item.prompt_ids) for item in alone.items} == {2, 4, 6, 9, 12}
    for batch_size in (2, 3, 7, 64):
        assert answer_questions(base, MIXED, GREEDY, batch_size=batch_size) == alone


def test_greedy_answer_is_the_argmax_of_a_plain_forward(base: Checkpoint) -> None:
    for item in answer_questions(base, MIXED, GREEDY).items:
        ids = torch.tensor([item.prompt_ids + item.answer_ids])
        with torch.no_grad():
            logits = base.model(ids).logits[0]
        assert logits[len(item.prompt_ids) - 1 : -1].argmax(-1).tolist() == list(item.answer_ids)


def test_seed_fixes_the_draws_and_leaves_the_global_state_alone(base: Checkpoint) -> None:
    questions = load_questions("arithmetic", count=30)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = answer_questions(base, questions, SAMPLED)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(17)
    assert answer_questions(base, questions, SAMPLED) == first
    assert answer_questions(base, questions, replace(SAMPLED, seed=4)).items != first.items


def test_sampling_follows_the_models_distribution(base: Checkpoint) -> None:
    """The first token is the first digit of one of three numbers, with the frequencies that the model predicts."""
    draws = 2000
    questions = QuestionSet(
        "same", "test", tuple(Question(str(n), "41+30+12?", "83") for n in range(draws)), lambda *_: True
    )
    answers = answer_questions(base, questions, replace(SAMPLED, max_new_tokens=1), batch_size=draws)
    with torch.no_grad():
        expected = base.model(torch.tensor([answers.items[0].prompt_ids])).logits[0, -1].softmax(-1)
    found = (
        torch.bincount(torch.tensor([item.answer_ids[0] for item in answers.items]), minlength=len(expected)) / draws
    )
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((found - expected).abs() <= 5 * error + 1e-3).all()
    assert (found > 0.1).sum() == 3


def test_a_tiny_nucleus_is_greedy(base: Checkpoint) -> None:
    narrow = answer_questions(base, MIXED, replace(SAMPLED, top_p=1e-6))
    assert narrow.items == answer_questions(base, MIXED, GREEDY).items


def test_the_checkpoints_own_generation_settings_are_set_aside_and_put_back(base: Checkpoint) -> None:
    model = base.model
    before = answer_questions(base, MIXED, SAMPLED)
    end = base.tokenizer.eos_token_id
    plain, own = (
        model.generation_config,
        GenerationConfig(repetition_penalty=3.0, top_k=1, suppress_tokens=[end], eos_token_id=end),
    )
    model.generation_config = own
    model.train()
    try:
        assert answer_questions(base, MIXED, SAMPLED).items == before.items
        assert model.generation_config is own
        assert model.training
    finally:
        model.generation_config = plain
        model.eval()


def test_any_of_several_end_tokens_ends_an_answer(base: Checkpoint) -> None:
    """Chat models have an end of turn besides the tokenizer's end of text."""
    equals = base.tokenizer.convert_tokens_to_ids("=")
    plain = base.model.generation_config
    base.model.generation_config = GenerationConfig(eos_token_id=[base.tokenizer.eos_token_id, equals])
    try:
        answers = answer_questions(base, load_questions("arithmetic", count=8), GREEDY)
    finally:
        base.model.generation_config = plain
    assert all(item.finished and item.answer_ids[-1] == equals for item in answers.items)
    assert all(item.answer_ids.count(equals) == 1 for item in answers.items)


def test_an_answer_cut_off_is_unfinished(base: Checkpoint) -> None:
    answers = answer_questions(base, load_questions("arithmetic", count=5), replace(GREEDY, max_new_tokens=4))
    assert [(len(item.answer_ids), item.finished, item.correct) for item in answers.items] == [(4, False, False)] * 5


def test_tokenizer_without_pad_token(base: Checkpoint) -> None:
    checkpoint = with_tokenizer(base, pad_token=None)
    assert checkpoint.tokenizer.pad_token_id is None
    assert answer_questions(checkpoint, MIXED, GREEDY).items == answer_questions(base, MIXED, GREEDY).items


def test_chat_template_makes_the_prompt(base: Checkpoint) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    checkpoint = with_tokenizer(base, chat_template=template)
    answers = answer_questions(checkpoint, question_set("41+30+12?"), GREEDY)
    assert answers.items[0].prompt_ids == tuple(base.tokenizer("41+30+12?>", add_special_tokens=False).input_ids)


def test_progress_shows_the_rate(
    base: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = answer_questions(base, MIXED, GREEDY, batch_size=2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the captured stream for a terminal
    assert answer_questions(base, MIXED, GREEDY, batch_size=2, progress=True) == quiet
    output, shown = capsys.readouterr()
    assert output == ""
    assert re.search(r"few .*7/7.* [\d,]+ tokens/s", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown))


@pytest.mark.parametrize(
    ("questions", "sampling", "message"),
    [
        (question_set("1+1?", ""), GREEDY, r"question 'q1' of 'few' has an empty prompt"),
        (question_set(), GREEDY, r"question set 'few' \(test\) holds no questions"),
        (
            question_set("1+1?", "41+30+12?"),
            Sampling(max_new_tokens=56),
            r"question 'q1' of 'few': 9 prompt tokens and 56 new ones do not fit the model's context of 64",
        ),
    ],
)
def test_questions_that_cannot_be_asked(
    base: Checkpoint, questions: QuestionSet, sampling: Sampling, message: str
) -> None:
    with pytest.raises(RLCircuitsError, match=message):
        answer_questions(base, questions, sampling)


def test_longest_answer_that_fits_the_context(base: Checkpoint) -> None:
    answers = answer_questions(base, question_set("41+30+12?"), Sampling(temperature=0.0, max_new_tokens=54))
    assert answers.items[0].finished


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("max_new_tokens", 0),
        ("seed", -1),
    ],
)
def test_bad_sampling_names_the_field(field: str, value: float) -> None:
    with pytest.raises(RLCircuitsError, match=f"sampling {field} is {value}"):
        Sampling(**{field: value})  # type: ignore[arg-type]


STORED = Answers(
    model="a model",
    question_set="few",
    split="dev",
    sampling=Sampling(temperature=0.7, top_p=0.9, max_new_tokens=12, seed=5),
    items=(
        Answer("q0", (1, 6, 4), (7, 2), "4", True, True),
        Answer("q1", (1, 5), (8, 8, 8), "é\n\u2028×", False, False),
        Answer("q2", (1,), (), "", False, False),
    ),
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    STORED.save(path)
    assert Answers.load(path) == STORED
    assert [entry.name for entry in path.parent.iterdir()] == ["answers.jsonl"]
    assert len(path.read_text(encoding="utf-8").split("\n")) == 5
    assert STORED.accuracy == pytest.approx(1 / 3)


def _without(field: str) -> str:
    record = asdict(STORED.items[1])
    del record[field]
    return json.dumps(record)


def _line(**changes: object) -> str:
    return json.dumps(asdict(STORED.items[1]) | changes)


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (3, '{"question_id": "q1", "prompt_ids": [1, 5], "answ', "it is no JSON"),
        (3, "", "it is no JSON"),
        (3, _without("answer_ids"), "field 'answer_ids': missing"),
        (3, _line(correct="yes"), "field 'correct': must be true or false, not 'yes'"),
        (3, _line(prompt_ids=[1, 2.5]), r"field 'prompt_ids\.1': must be a whole number, not 2.5"),
        (3, _line(question_id="q0"), "question 'q0' was already answered on line 2"),
        (1, "{}", "field 'format': missing"),
        (1, "[]", r"must be a table, not \[\]"),
        (2, None, "file ends after 1 answers; its header promises 3"),
    ],
)
def test_damaged_file_is_named_with_its_line(tmp_path: Path, number: int, line: str | None, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    STORED.save(path)
    lines = path.read_text(encoding="utf-8").split("\n")
    lines = lines[:number] if line is None else [*lines[: number - 1], line, *lines[number:]]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RLCircuitsError, match=rf"answers\.jsonl:{number}: {message}"):
        Answers.load(path)


@pytest.mark.parametrize(("field", "value"), [("format", "other"), ("version", 2)])
def test_another_format_is_refused(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "answers.jsonl"
    STORED.save(path)
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(json.dumps(json.loads(header) | {field: value}) + "\n" + rest, encoding="utf-8")
    with pytest.raises(
        RLCircuitsError, match=r"answers\.jsonl:1: found format .*'rlcircuits-answers' version 1 is wanted"
    ):
        Answers.load(path)


def test_missing_empty_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match=r"none\.jsonl: cannot be read"):
        Answers.load(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(RLCircuitsError, match=r"empty\.jsonl: it is empty; answers are wanted"):
        Answers.load(tmp_path / "empty.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RLCircuitsError, match=r"binary\.jsonl:1: it is not UTF-8"):
        Answers.load(tmp_path / "binary.jsonl")


def test_no_answers_have_no_accuracy() -> None:
    with pytest.raises(RLCircuitsError, match="answers of 'a model' are empty"):
        _ = replace(STORED, items=()).accuracy


def test_questions_that_the_tokenizer_loses_are_refused() -> None:
    """A tokenizer that drops unknown characters would ask the model another question."""
    questions = question_set("Ärger? Öl!", "1+1?", "Über 5 Äpfel")
    message = r"the tokenizer of .* cannot write 2 of the 3 questions of 'few': 'Ärger\? Öl!' becomes "
    with pytest.raises(RLCircuitsError, match=message):
        answer_questions(Checkpoint(build("llama", seed=3), tiny_tokenizer()), questions)
