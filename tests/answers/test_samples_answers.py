"""Test several answers to each question: their order, resuming to the same bytes, and unchanged files for n = 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.interrupt_run import answers_after_cut
from helpers.tiny_checkpoints import MIXED, Unloadable, save_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.engines.registry import open_engine
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.recorded import recorded_answers
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.release.settings import make_settings

SAMPLING = Sampling(max_new_tokens=5, seed=3, n=3)
ONCE = replace(SAMPLING, n=1)
BATCH = 4  # of seven questions with three answers each: a batch holds parts of two questions, the last one answer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("team") / "model")), device="cpu")


def ask(source: Any, store: Path | None, sampling: Sampling = SAMPLING) -> Answers:
    return answer_questions(source, MIXED, sampling, BATCH, store=store)


@pytest.fixture(scope="module")
def whole(source: CheckpointSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cached file of an uninterrupted run."""
    store = tmp_path_factory.mktemp("whole")
    ask(source, store)
    return file_in(store)


def file_in(store: Path) -> Path:
    (file,) = store.glob("*.jsonl")
    return file


@pytest.fixture(scope="module")
def made(source: CheckpointSource) -> Answers:
    return ask(source, None)


def test_every_question_is_answered_n_times(made: Answers, source: CheckpointSource) -> None:
    wanted = [(question.id, sample) for question in MIXED.questions for sample in range(3)]
    assert [(item.question_id, item.sample) for item in made.items] == wanted
    assert len({item.answer_ids for item in made.items}) > len(MIXED)
    assert made.accuracy == sum(item.correct for item in made.items) / 21
    for place, question in enumerate(MIXED.questions):
        prompts = {item.prompt_ids for item in made.items[3 * place : 3 * place + 3]}
        assert prompts == {tuple(source.tokenizer()(question.text)["input_ids"])}


def test_each_batch_is_what_the_engine_writes_for_the_prompts_repeated(
    source: CheckpointSource, whole: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in whole.read_text().splitlines()[1:]]
    assert [line.get("sample", 0) for line in lines] == [0, 1, 2] * 7
    prompts = [tuple(line["prompt_ids"]) for line in lines]
    assert [len(prompt) for prompt in prompts] == sorted(map(len, prompts), reverse=True)
    engine = open_engine("transformers", source)
    seeds: list[int] = []
    complete = engine.complete

    def listening(asked: Any, sampling: Sampling, seed: int) -> Any:
        seeds.append(seed)
        return complete(asked, sampling, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine), "complete", lambda self, *given: listening(*given))
        ask(source, tmp_path)
    assert len(set(seeds)) == 6
    for number, seed in enumerate(seeds):
        batch = slice(number * BATCH, (number + 1) * BATCH)
        assert [list(c.ids) for c in complete(prompts[batch], SAMPLING, seed)] == [
            line["answer_ids"] for line in lines[batch]
        ]


def test_the_file_counts_answers_and_loads(made: Answers, whole: Path, tmp_path: Path) -> None:
    header = json.loads(whole.read_text().splitlines()[0])
    assert (header["count"], header["sampling"]["n"]) == (21, 3)
    assert Answers.load(whole) == made
    made.save(tmp_path / "again.jsonl")
    assert Answers.load(tmp_path / "again.jsonl") == made
    assert [json.loads(line)["place"] for line in (tmp_path / "again.jsonl").read_text().splitlines()[1:]] == [
        place for place in range(7) for _ in range(3)
    ]


@settings(max_examples=10)
@given(share=st.floats(0, 1))
def test_a_run_cut_off_anywhere_goes_on_to_the_same_file(
    source: CheckpointSource, whole: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    found = answers_after_cut(ask, source, whole, tmp_path_factory.mktemp("cut"), share)
    assert found == Answers.load(whole)


def test_another_number_of_answers_is_another_run(source: CheckpointSource, tmp_path: Path) -> None:
    ask(source, tmp_path, ONCE)
    with pytest.raises(AssertionError, match="loaded"):
        ask(Unloadable(source), tmp_path)
    ask(source, tmp_path)
    for sampling in (ONCE, SAMPLING):
        ask(Unloadable(source), tmp_path, sampling)


def test_one_answer_a_question_is_known_by_the_key_it_always_had(source: CheckpointSource, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="loaded"):
        ask(Unloadable(source, known_as="0" * 64), tmp_path, ONCE)
    assert file_in(tmp_path).name == "some-model-few-test-eb8bc41d0d60.jsonl"


OLD = """\
{"format":"rlcircuits-answers","version":1,"model":"m","question_set":"few","split":"test","sampling":\
{"temperature":1.0,"top_p":1.0,"max_new_tokens":64,"seed":42},"count":2,"prompting":null,"engine":null,\
"batch_size":null,"key":null}
{"question_id":"q0","prompt_ids":[1,6],"answer_ids":[7,2],"text":"4","correct":true,"finished":true,\
"problem":null,"place":0}
{"question_id":"q1","prompt_ids":[1,5],"answer_ids":[8],"text":"5","correct":false,"finished":false,\
"problem":null,"place":1}
"""


def test_a_file_from_before_there_were_samples(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text(OLD)
    found = Answers.load(path)
    assert (found.sampling, [item.sample for item in found.items]) == (Sampling(max_new_tokens=64), [0, 0])
    found.save(tmp_path / "new.jsonl")
    assert (tmp_path / "new.jsonl").read_text() == OLD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": 3}, ":3: field 'sample' is 3; 0 to 2 is wanted"),
        ({"sample": -1}, ":3: field 'sample' is -1; 0 to 2 is wanted"),
        ({"sample": "1"}, ":3: field 'sample': must be a whole number, not '1'"),
        ({"sample": 0}, ":3: sample 0 of question 'q.' was already answered on line 2"),
        ({"sample": 2}, ":4: sample 2 of question 'q.' was already answered on line 3"),
    ],
)
def test_a_wrong_sample_is_named_with_its_line(
    whole: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    lines = whole.read_text().splitlines(keepends=True)
    lines[2] = json.dumps(json.loads(lines[2]) | change) + "\n"
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(lines))
    with pytest.raises(RLCircuitsError, match=rf"answers\.jsonl{message}"):
        Answers.load(path)


def test_samples_out_of_order_in_a_store(source: CheckpointSource, whole: Path, tmp_path: Path) -> None:
    lines = whole.read_text().splitlines(keepends=True)
    (tmp_path / whole.name).write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(RLCircuitsError, match=r"\.jsonl:2: field 'sample' is 1; 0 is wanted"):
        ask(Unloadable(source), tmp_path)


def test_n_has_limits() -> None:
    for n in (0, -2):
        with pytest.raises(RLCircuitsError, match=f"sampling n is {n}; a whole number from 1 to 10,000 is wanted"):
            Sampling(n=n)
    with pytest.raises(RLCircuitsError, match="sampling n is 2 at temperature 0, where all answers to a question are"):
        Sampling(temperature=0, n=2)
    assert Sampling(temperature=0, n=1) == Sampling(temperature=0)
    assert make_settings({"sampling": {"n": 4}}).sampling.n == 4
    for table, message in (
        ({"n": 0}, "the settings, key 'sampling': sampling n is 0"),
        ({"n": 2, "temperature": 0}, "the settings, key 'sampling': sampling n is 2 at temperature 0"),
        ({"n": 1.5}, r"the settings, key 'sampling\.n': "),
    ):
        with pytest.raises(RLCircuitsError, match=message):
            make_settings({"sampling": table})


# ---- recorded ----


def of_questions(made: Answers) -> list[list[Any]]:
    """Return the answers grouped by question."""
    return [list(made.items[start : start + 3]) for start in range(0, len(made.items), 3)]


def as_lists(made: Answers) -> list[dict[str, Any]]:
    return [
        {
            "question_id": samples[0].question_id,
            "prompt_token_ids": samples[0].prompt_ids,
            "completion_token_ids": [item.answer_ids for item in samples],
        }
        for samples in of_questions(made)
    ]


def as_vllm_outputs(made: Answers) -> list[dict[str, Any]]:
    return [
        {
            "index": place,
            "prompt_token_ids": samples[0].prompt_ids,
            "outputs": [
                {"token_ids": item.answer_ids, "finish_reason": "stop" if item.finished else "length"}
                for item in samples
            ],
        }
        for place, samples in enumerate(of_questions(made))
    ]


def of_the_harness(made: Answers) -> list[dict[str, Any]]:
    """Lines as the study's harness writes several samples, with the prompt repeated for each."""
    return [
        {
            "idx": place,
            "question": MIXED.questions[place].text,
            "prompt_token_ids": [item.prompt_ids for item in samples],
            "generate_token_ids": [item.answer_ids for item in samples],
        }
        for place, samples in enumerate(of_questions(made))
    ]


SHAPES = [as_lists, as_vllm_outputs, of_the_harness]


def read(path: Path, source: CheckpointSource, records: list[dict[str, Any]], n: int) -> Answers:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return recorded_answers(path, source, MIXED, sampling=replace(SAMPLING, n=n))


@pytest.mark.parametrize("shape", SHAPES)
def test_recorded_answers_are_the_first_n_of_each_line(
    tmp_path: Path, source: CheckpointSource, made: Answers, shape: Callable[[Answers], list[dict[str, Any]]]
) -> None:
    records = shape(made)
    path = tmp_path / "a.jsonl"
    assert read(path, source, records[::-1], 3) == replace(made, prompting=None)
    for n in (1, 2):
        first = tuple(item for item in made.items if item.sample < n)
        assert read(path, source, records, n) == replace(
            made, prompting=None, sampling=replace(SAMPLING, n=n), items=first
        )


def test_a_question_without_answers_has_empty_ones(tmp_path: Path, source: CheckpointSource, made: Answers) -> None:
    records = as_lists(made)
    records[0]["completion_token_ids"] = [[], [], []]
    found = read(tmp_path / "a.jsonl", source, records, 3).items
    assert [(item.answer_ids, item.correct) for item in found[:3]] == [((), False)] * 3
    assert len(found) == len(made.items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion_token_ids": [[5], [6]]}, "field 'completion_token_ids' holds 2 samples; the sampling's n = 3"),
        ({"completion_token_ids": [5, 6, 7]}, "field 'completion_token_ids' holds 1 sample; the sampling's n = 3"),
        ({"completion_token_ids": []}, "field 'completion_token_ids' holds 1 sample; the sampling's n = 3"),
        (
            {"completion_token_ids": [[5], [6], 7]},
            "field 'completion_token_ids', sample 2, holds a number; a list of token ids",
        ),
        ({"completion_token_ids": [[5], [6, -1], [7]]}, "field 'completion_token_ids', sample 1, has token id -1 at"),
        ({"completion_token_ids": [[5], ["6"], [7]]}, "field 'completion_token_ids', sample 1, has '6' at position 0"),
    ],
)
def test_a_line_with_too_few_samples_is_named(
    tmp_path: Path, source: CheckpointSource, made: Answers, change: dict[str, Any], message: str
) -> None:
    records = as_lists(made)
    records[1] |= change
    with pytest.raises(RLCircuitsError, match=rf"a\.jsonl:2: {message}"):
        read(tmp_path / "a.jsonl", source, records, 3)
