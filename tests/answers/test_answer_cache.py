"""Test the cache of answers: hits, resuming an interrupted run, and keys that keep other settings apart."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.held_locks import held, run_while_held
from helpers.interrupt_run import answers_after_cut
from helpers.tiny_checkpoints import MIXED, TOKENS, Unloadable, save_checkpoint, tiny_tokenizer, touch_weight
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlcircuits.answers.answer_file import Answers, Line, parse_answers, parse_header
from rlcircuits.answers.cache import cache_with_others
from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import Question, QuestionSet, load_questions

SAMPLING = Sampling(max_new_tokens=5, seed=3)
BATCH = 2  # of seven questions: three batches and one answer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CheckpointSource:
    return CheckpointSource(str(save_checkpoint(tmp_path_factory.mktemp("team") / "model")), device="cpu")


@pytest.fixture(scope="module")
def whole(source: CheckpointSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cached file of an uninterrupted run."""
    store = tmp_path_factory.mktemp("whole")
    ask(source, store)
    return file_in(store)


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """Return a cache that holds a finished run."""
    shutil.copy(whole, tmp_path)
    return tmp_path


def ask(source: Any, store: Path | None, questions: QuestionSet = MIXED, **options: Any) -> Answers:
    return answer_questions(source, questions, **{"sampling": SAMPLING, "batch_size": BATCH, "store": store, **options})


def file_in(store: Path) -> Path:
    (file,) = store.glob("*.jsonl")
    return file


def test_a_stored_run_gives_what_an_unstored_one_does(source: CheckpointSource, whole: Path) -> None:
    plain = ask(source, None)
    assert Answers.load(whole) == plain == ask(source.load(), None)
    assert [item.question_id for item in plain.items] == [question.id for question in MIXED.questions]


def test_the_file_says_what_was_asked_and_lists_answers_as_made(source: CheckpointSource, whole: Path) -> None:
    header, *lines = (json.loads(line) for line in whole.read_text().splitlines())
    assert "-model-few-test-" in whole.name
    assert whole.name.endswith(f"-{header['key'][:12]}.jsonl")
    wanted = {"model": source.name, "count": 7, "engine": "transformers", "batch_size": BATCH}
    assert {name: header[name] for name in wanted} == wanted
    assert header["prompting"]["template"] == "{question}"
    lengths = [len(line["prompt_ids"]) for line in lines]
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(line["place"] for line in lines) == list(range(7))


def test_a_second_run_loads_no_model_and_writes_nothing(source: CheckpointSource, store: Path) -> None:
    before = file_in(store).stat()
    assert ask(Unloadable(source), store) == ask(source, None)
    assert file_in(store).stat() == before


def test_a_checkpoint_that_moved_is_known_again(source: CheckpointSource, store: Path, tmp_path: Path) -> None:
    shutil.copytree(source.path, tmp_path / "moved")
    moved = CheckpointSource(str(tmp_path / "moved"), device="cpu")
    assert ask(Unloadable(moved), store) == replace(ask(source, None), model=moved.name)


def test_answers_of_other_weights_or_settings_are_not_reused(source: CheckpointSource, store: Path) -> None:
    other_gold = replace(MIXED, questions=tuple(replace(question, gold="1") for question in MIXED.questions))
    for options in (
        {"sampling": replace(SAMPLING, seed=4)},
        {"sampling": replace(SAMPLING, temperature=0.5)},
        {"batch_size": 3},
        {"prompting": Prompting(template="{question} ")},
        {"questions": other_gold},
        {"questions": replace(MIXED, split="train")},
        {"questions": replace(MIXED, grade=lambda text, gold: True)},
    ):
        with pytest.raises(AssertionError, match="loaded"):
            ask(Unloadable(source), store, **options)
    with pytest.raises(AssertionError, match="loaded"):
        ask(Unloadable(replace(source, dtype="bfloat16")), store)


def test_a_changed_checkpoint_answers_anew(source: CheckpointSource, store: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(source.path, changed)
    ask(Unloadable(CheckpointSource(str(changed))), store)
    touch_weight(changed)
    with pytest.raises(AssertionError, match="loaded"):
        ask(Unloadable(CheckpointSource(str(changed))), store)


@settings(max_examples=8)
@example(share=0.0)
@given(share=st.floats(0, 1))
def test_a_run_cut_off_anywhere_goes_on_to_the_same_file(
    source: CheckpointSource, whole: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    answers_after_cut(ask, source, whole, tmp_path_factory.mktemp("cut"), share)


def test_an_unfinished_file_is_not_taken_for_a_whole_one(store: Path) -> None:
    file = file_in(store)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:4]))
    with pytest.raises(RLCircuitsError, match=r"\.jsonl:4: file ends after 3 answers; its header promises 7"):
        Answers.load(file)


def test_only_whole_batches_are_kept(source: CheckpointSource, store: Path) -> None:
    """Three answers are one batch and a half. Damage in the incomplete batch does not matter."""
    file = file_in(store)
    content = file.read_text()
    lines = content.splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + "{nonsense\n")
    ask(source, store)
    assert file.read_text() == content


def test_an_interrupted_run_keeps_its_batches(source: CheckpointSource, whole: Path, tmp_path: Path) -> None:
    graded: list[str] = []
    grade = load_questions("arithmetic", count=1).grade

    def stops(text: str, gold: str) -> bool:
        graded.append(text)
        if len(graded) == 4:
            raise KeyboardInterrupt
        return grade(text, gold)

    interrupted = replace(MIXED, grade=stops)
    with pytest.raises(KeyboardInterrupt):
        ask(source, tmp_path, interrupted)
    assert len(file_in(tmp_path).read_text().splitlines()) == 1 + BATCH
    assert ask(source, tmp_path, interrupted).items == Answers.load(whole).items
    assert len(graded) == 4 + 5


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (3, lambda line: line[:20] + "\n", r":3: it is no JSON"),
        (2, lambda line: line.replace('"correct"', '"right"'), r":2: field 'correct': missing"),
        (1, lambda line: line[:30] + "\n", r":1: it is no JSON"),
        (1, lambda line: line.replace('"key":"', '"key":"0'), r":1: these answers were made for other settings"),
    ],
)
def test_a_damaged_file_is_one_error(
    source: CheckpointSource, store: Path, number: int, change: Any, message: str
) -> None:
    file = file_in(store)
    lines = file.read_text().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    file.write_text("".join(lines))
    with pytest.raises(RLCircuitsError, match=rf"\.jsonl{message}"):
        ask(Unloadable(source), store)


def test_lines_out_of_order_or_too_many_are_one_error(source: CheckpointSource, store: Path) -> None:
    file = file_in(store)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], *lines[:0:-1]]))
    with pytest.raises(RLCircuitsError, match=r"\.jsonl:2: field 'place' is \d; \d is wanted"):
        ask(Unloadable(source), store)
    more = json.loads(lines[1]) | {"question_id": "q99"}
    file.write_text("".join([*lines, json.dumps(more) + "\n"]))
    with pytest.raises(RLCircuitsError, match=r"\.jsonl:9: there are 8 answers; 7 are wanted"):
        ask(Unloadable(source), store)


@pytest.mark.parametrize("finishes", [True, False])
def test_a_file_that_another_process_writes_is_waited_for(
    source: CheckpointSource, store: Path, finishes: bool
) -> None:
    """After waiting, a finished file is read, and one whose process died is resumed."""
    file = file_in(store)
    content = file.read_bytes()
    file.write_bytes(b"".join(content.splitlines(keepends=True)[:4]))
    asked = Unloadable(source) if finishes else source
    found = run_while_held(
        file,
        lambda notify: ask(asked, store, notify=notify),
        lambda: finishes and file.write_bytes(content),
    )
    assert found == ask(source, None)
    assert file.read_bytes() == content


def test_an_interruption_ends_the_wait(source: CheckpointSource, store: Path) -> None:
    file = file_in(store)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))

    def interrupt(_: str) -> None:
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()

    with held(file), pytest.raises(KeyboardInterrupt):
        ask(source, store, notify=interrupt)


def test_a_store_needs_a_source(source: CheckpointSource, tmp_path: Path) -> None:
    with pytest.raises(RLCircuitsError, match="is a loaded checkpoint; give a source, such as"):
        ask(source.load(), tmp_path)


def test_a_graders_problem_is_kept_with_the_answer(source: CheckpointSource, tmp_path: Path) -> None:
    def breaks(text: str, gold: str) -> bool:
        raise ZeroDivisionError("by zero")

    questions = QuestionSet("hard", "test", (Question("q0", "1?", "1"),), breaks)
    (item,) = ask(source, tmp_path, questions).items
    assert (item.correct, item.problem) == (False, "ZeroDivisionError: by zero")
    assert Answers.load(file_in(tmp_path)).items == (item,)


def test_another_tokenizer_is_another_checkpoint(source: CheckpointSource, store: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(source.path, changed)
    tiny_tokenizer((*TOKENS[:5], TOKENS[6], TOKENS[5], *TOKENS[7:])).save_pretrained(changed)
    with pytest.raises(AssertionError, match="loaded"):
        ask(Unloadable(CheckpointSource(str(changed))), store)


@pytest.mark.parametrize("in_file", [None, 0, 1, 3, 7])
@pytest.mark.parametrize("as_parts", [(), (0,), (1, 3), (0, 1, 2, 3)])
def test_shared_answers_are_the_same_file(
    source: CheckpointSource, whole: Path, tmp_path: Path, in_file: int | None, as_parts: tuple[int, ...]
) -> None:
    """Whatever a run alone and others have made before: some lines of the file, and some batches as files."""
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    if in_file is not None:
        (tmp_path / whole.name).write_bytes(b"".join([header, *lines[:in_file]]))
    parts = tmp_path / f".answers-{json.loads(header)['key']}"
    parts.mkdir()
    for part in as_parts:
        (parts / f"batch-{part:06d}.jsonl").write_bytes(b"".join(lines[part * BATCH : (part + 1) * BATCH]))
    made = {*as_parts, *range((in_file or 0) // BATCH)} | ({3} if in_file == 7 else set())
    asked = Unloadable(source) if made == {0, 1, 2, 3} else source
    assert ask(asked, tmp_path, share=True) == ask(source, None)
    assert file_in(tmp_path).read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_a_run_alone_takes_the_batches_of_others_that_were_stopped(
    source: CheckpointSource, whole: Path, tmp_path: Path
) -> None:
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    parts = tmp_path / f".answers-{json.loads(header)['key']}"
    parts.mkdir()
    for part in range(4):
        (parts / f"batch-{part:06d}.jsonl").write_bytes(b"".join(lines[part * BATCH : (part + 1) * BATCH]))
    assert ask(Unloadable(source), tmp_path) == ask(source, None)
    assert file_in(tmp_path).read_bytes() == whole.read_bytes()
    assert not parts.exists()


@settings(max_examples=6, deadline=None)
@given(makers=st.integers(2, 4))
def test_answers_made_by_several_at_once(whole: Path, tmp_path_factory: pytest.TempPathFactory, makers: int) -> None:
    store = tmp_path_factory.mktemp("shared")
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    found = parse_answers(whole, lines, 1)
    order = [(line.place or 0, line.sample) for line in found]
    made: list[int] = []

    def make(batch: int) -> list[Line]:
        made.append(batch)
        return found[batch * BATCH : (batch + 1) * BATCH]

    with ThreadPoolExecutor(makers) as pool:
        wanted = parse_header(whole, header)
        list(pool.map(lambda _: cache_with_others(store, wanted, order, make), range(makers)))
    assert sorted(made) == [0, 1, 2, 3]
    assert [path.read_bytes() for path in store.iterdir() if not path.name.startswith(".")] == [whole.read_bytes()]
    assert not list(store.glob(".answers-*"))
