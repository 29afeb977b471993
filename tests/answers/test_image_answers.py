"""Answers to questions with images: prompts, generation, the cache, and what is refused."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_checkpoints import MIXED, save_checkpoint
from helpers.tiny_images import IMAGE_FAMILIES, IMAGE_TOKEN, picture, question_file, save_with_processor

from rlcircuits import Checkpoint, RLCircuitsError
from rlcircuits.answers import answer_questions
from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.question_prompts import prompt_questions
from rlcircuits.answers.recorded import recorded_answers
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.questions import QuestionSet, load_questions

GREEDY = Sampling(temperature=0.0, max_new_tokens=5)


@pytest.fixture(scope="module", params=IMAGE_FAMILIES)
def source(request: Any, tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    folder = save_with_processor(tmp_path_factory.mktemp(request.param) / "model", request.param)
    return CheckpointSource(str(folder), device="cpu")


@pytest.fixture
def questions(tmp_path: Path) -> QuestionSet:
    return load_questions(question_file(tmp_path, 6))


def test_prompts_are_those_of_the_processor(source: CheckpointSource, questions: QuestionSet) -> None:
    prompts = prompt_questions(source, Prompting(), questions)
    tokenizer = source.tokenizer()
    for question, ids, images in zip(questions.questions, prompts.ids, prompts.images, strict=True):
        assert (images is None) == (not question.images)
        if images is None:
            assert ids == Prompting().prompt_ids(tokenizer, question.text)
            continue
        # The picture stands before the text, or where the text says so.
        runs = [len(list(run)) for token, run in groupby(ids) if token == IMAGE_TOKEN]
        assert len(runs) >= len(question.images)
        marked = "<image>" in question.text
        first = ids.index(IMAGE_TOKEN)
        assert (first > ids.index(tokenizer.convert_tokens_to_ids("+"))) == marked
        inputs = images.tensors()
        types = inputs.get("mm_token_type_ids", inputs.get("token_type_ids"))
        assert types is None or types[0].tolist() == [int(token == IMAGE_TOKEN) for token in ids]


def test_answers_are_those_of_the_plain_forward(source: CheckpointSource, questions: QuestionSet) -> None:
    """Left-padded batches with a cache of keys and values, against one sequence without either."""
    answers = answer_questions(source, questions, GREEDY)
    model = source.load().model
    for item in answers.items:
        ids = list(item.prompt_ids)
        for _ in item.answer_ids:
            inputs = {} if item.images is None else item.images.tensors()
            for name, tensor in inputs.items():
                inputs[name] = tensor.to(model.dtype) if tensor.is_floating_point() else tensor
                if name.endswith("token_type_ids"):
                    inputs[name] = torch.nn.functional.pad(tensor, (0, len(ids) - tensor.shape[1]))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False, **inputs).logits
            ids.append(int(logits[0, -1].argmax()))
        assert tuple(ids[len(item.prompt_ids) :]) == item.answer_ids


def test_a_changed_picture_is_answered_anew_and_an_unchanged_one_is_not(
    source: CheckpointSource, tmp_path: Path
) -> None:
    def answered() -> list[str]:
        answer_questions(source, load_questions(question_file(tmp_path / "q", 3)), GREEDY, store=tmp_path / "store")
        return sorted(file.name for file in (tmp_path / "store").glob("*.jsonl"))

    first = answered()
    assert answered() == first
    file = question_file(tmp_path / "q", 3)
    picture(99, 16, 24).save(tmp_path / "q" / "pictures" / "1-0.png")
    answer_questions(source, load_questions(file), GREEDY, store=tmp_path / "store")
    assert len(list((tmp_path / "store").glob("*.jsonl"))) == 2 * len(first)


def test_answers_from_a_store_have_their_pictures_and_those_from_a_file_their_keys(
    source: CheckpointSource, questions: QuestionSet, tmp_path: Path
) -> None:
    made = answer_questions(source, questions, GREEDY, store=tmp_path / "store")
    read = answer_questions(source, questions, GREEDY, store=tmp_path / "store")
    assert read == made
    assert read.items[1].images is not None
    assert read.items[1].images.tensors().keys() >= {"pixel_values"}
    made.save(tmp_path / "answers.jsonl")
    loaded = Answers.load(tmp_path / "answers.jsonl")
    assert loaded == made
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()[1:]
    assert ['"images":' in line for line in lines] == [bool(question.images) for question in questions.questions]


def test_the_key_has_the_processors_settings(source: CheckpointSource, questions: QuestionSet, tmp_path: Path) -> None:
    family = source.load().model.config.model_type
    folder = save_with_processor(tmp_path / "model", family)
    before = prompt_questions(CheckpointSource(str(folder)), Prompting(), questions).images
    assert before == prompt_questions(source, Prompting(), questions).images
    (file,) = (
        folder / name for name in ("processor_config.json", "preprocessor_config.json") if (folder / name).is_file()
    )
    file.write_text(file.read_text().replace("0.00392156862745098", "0.005"))
    after = prompt_questions(CheckpointSource(str(folder)), Prompting(), questions).images
    assert [a == b for a, b in zip(before, after, strict=True)] == [not q.images for q in questions.questions]


def test_a_model_without_vision_is_refused(questions: QuestionSet, tmp_path: Path) -> None:
    source = CheckpointSource(str(save_checkpoint(tmp_path / "text")), device="cpu")
    with pytest.raises(RLCircuitsError, match=r"\(model_type 'llama'\) has no vision tower .*leave images out"):
        answer_questions(source, questions, GREEDY)


def test_a_checkpoint_without_a_processor_is_refused(questions: QuestionSet, tmp_path: Path) -> None:
    folder = save_with_processor(tmp_path / "m", "qwen2_5_vl")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(RLCircuitsError, match=r"has no processor of images that loads .*preprocessor_config\.json"):
        answer_questions(CheckpointSource(str(folder), device="cpu"), questions, GREEDY)


def test_no_chat_template_is_refused(source: CheckpointSource, questions: QuestionSet) -> None:
    with pytest.raises(RLCircuitsError, match=r"no chat template in use \(chat = false\), and questions with images"):
        prompt_questions(source, Prompting(chat=False), questions)


def test_a_picture_that_the_processor_refuses_is_named(tmp_path: Path) -> None:
    source = CheckpointSource(str(save_with_processor(tmp_path / "m", "qwen2_5_vl")), device="cpu")
    file = question_file(tmp_path, 2)
    picture(1, 2000, 1).save(tmp_path / "pictures" / "1-0.png")
    with pytest.raises(RLCircuitsError, match=r"questions\.jsonl:2: field 'images': question '2': the processor of"):
        prompt_questions(source, Prompting(), load_questions(file))


def test_another_engine_and_recorded_answers_are_refused(
    source: CheckpointSource, questions: QuestionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcircuits.answers.generate.check_engine", lambda engine: None)
    with pytest.raises(RLCircuitsError, match="engine 'vllm' is asked questions of text alone"):
        answer_questions(source, questions, GREEDY, engine="vllm")
    (tmp_path / "r.jsonl").write_text('{"index": 0, "prompt_ids": [1, 3], "answer_ids": [4]}\n')
    with pytest.raises(RLCircuitsError, match="recorded answers are read for questions of text alone"):
        recorded_answers(tmp_path / "r.jsonl", source, questions, sampling=GREEDY)


def test_text_questions_to_a_vision_language_model_need_no_processor(tmp_path: Path) -> None:
    folder = save_with_processor(tmp_path / "m", "qwen2_5_vl")
    (folder / "preprocessor_config.json").unlink()
    checkpoint = Checkpoint.load(folder, device="cpu")
    assert len(answer_questions(checkpoint, MIXED, GREEDY)) == len(MIXED)
