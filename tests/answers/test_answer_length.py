"""Test max_new_tokens: a given value, or else the question set's limit, lowered to the models' contexts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_checkpoints import question_set, save_checkpoint
from helpers.tiny_pairs import save_tiny_pair
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits.answers.generate import answer_questions
from rlcircuits.answers.max_new_tokens import LEAST_NEW_TOKENS, ContextRoom, choose_max_new_tokens
from rlcircuits.answers.prompting import Prompting
from rlcircuits.answers.types import Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions import QuestionSource, load_questions
from rlcircuits.release.pair import make_pair
from rlcircuits.release.pairs_file import PairsFile, load_pairs_file
from rlcircuits.release.plan import make_plan
from rlcircuits.release.run import run_pair
from rlcircuits.release.settings import Settings

CONTEXT = 96
"""Context length of the tiny models."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture
def all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcircuits.questions.arithmetic.grade", lambda answer, gold: True)


def questions_file(folder: Path, **fields: str) -> Path:
    file = folder / "set.jsonl"
    record = {"question": "1+1?", "problem": "1+1?", "answer": "#### 2", "solution": "\\boxed{2}", **fields}
    file.write_text(json.dumps(record) + "\n")
    return file


@pytest.mark.parametrize(
    ("name", "longest"),
    [("arithmetic", 32), ("equations", 32), ("gsm8k", 512), ("math", 2048), ("math500", 2048), ("college_math", 2048),
     ("ours", 512)],
)  # fmt: skip
def test_each_question_set_has_a_length_of_its_own(name: str, longest: int, tmp_path: Path) -> None:
    built_in = name in ("arithmetic", "equations")
    where: dict[str, Any] = {} if built_in else {"file": questions_file(tmp_path)}
    assert load_questions(QuestionSource(name=name, **where), count=1).max_new_tokens == longest
    assert load_questions(QuestionSource(name=name, max_new_tokens=9, **where), count=1).max_new_tokens == 9
    with pytest.raises(RLCircuitsError, match="key 'max_new_tokens'"):
        QuestionSource(name=name, max_new_tokens=0, **where)


ROOMS = st.lists(
    st.builds(ContextRoom, st.just("m"), st.none() | st.integers(1, 5000), st.integers(1, 3000)), min_size=1, max_size=2
)


@given(ROOMS, st.none() | st.integers(1, 4000))
def test_only_a_default_is_lowered_to_the_smallest_room(rooms: list[ContextRoom], asked: int | None) -> None:
    questions = replace(question_set("1?"), max_new_tokens=512)
    told: list[str] = []
    smallest = min(room.tokens for room in rooms)
    if asked is None and smallest < LEAST_NEW_TOKENS:
        with pytest.raises(RLCircuitsError, match=r"leaves room for \d+ new tokens, and answers to 'few' need"):
            choose_max_new_tokens(Sampling(), questions, rooms, told.append)
        return
    found = choose_max_new_tokens(Sampling(max_new_tokens=asked), questions, rooms, told.append).max_new_tokens
    assert found == (asked if asked is not None else min(512, smallest))
    assert len(told) == (asked is None and smallest < 512)


def test_answers_are_as_long_as_the_set_needs_where_that_fits(folders: tuple[Path, Path]) -> None:
    questions, told = question_set("41+30+12?", "1?"), list[str]()
    source = CheckpointSource(folders[0])
    short = answer_questions(source, replace(questions, max_new_tokens=20), notify=told.append)
    assert (short.sampling.max_new_tokens, told) == (20, [])
    assert max(len(item.answer_ids) for item in short.items) <= 20
    # The prompt is <bos> and nine characters.
    long = answer_questions(source, questions, notify=told.append)
    assert long.sampling.max_new_tokens == CONTEXT - 10
    assert told == [
        f"answers end at 86 tokens, not at the 512 of 'few': {folders[0]}'s context of 96 tokens, beside its longest "
        "prompt of 10, has no room for more"
    ]
    assert answer_questions(source.load(), questions).items == long.items
    with pytest.raises(RLCircuitsError, match="leaves room for 6 new tokens, and answers to 'few' need up to 512"):
        answer_questions(source, questions, prompting=Prompting(few_shot="1" * 80))
    with pytest.raises(RLCircuitsError, match="10 prompt tokens and 87 new ones do not fit"):
        answer_questions(source, questions, Sampling(max_new_tokens=87))


@pytest.mark.usefixtures("all_right")
def test_a_pair_has_one_length_and_the_key_it_has_with_that_length_given(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    pair = make_pair(name="mine", before=str(folders[0]), after=str(folders[1]), algorithm="sft")
    settings = Settings(k=20, question_count=30, balance=2.0, noise_draws=1, sampling=Sampling(), device="cpu")
    told: list[str] = []
    first = run_pair(pair, settings, output=tmp_path / "out")
    assert first.sampling["max_new_tokens"] == 32
    given = replace(settings, sampling=Sampling(max_new_tokens=32))
    assert run_pair(pair, given, output=tmp_path / "out", notify=told.append) == first
    assert told == ["mine: measured before, and nothing has changed since"]
    plan = make_plan(PairsFile((pair,)), settings, tmp_path / "out")
    assert plan.pairs[0].measured
    assert plan.pairs[0].answering[0].answer_tokens == 30 * 32


@pytest.mark.usefixtures("all_right")
def test_the_smaller_context_of_a_pair_counts_for_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "short", seed=4)
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 30}))
    settings = Settings(k=20, question_count=30, balance=2.0, noise_draws=0, sampling=Sampling(), device="cpu")
    told: list[str] = []
    for before, after in ((folders[0], tmp_path / "short"), (tmp_path / "short", folders[0])):
        pair = make_pair(name="mine", before=str(before), after=str(after), algorithm="sft")
        assert run_pair(pair, settings, notify=told.append).sampling["max_new_tokens"] == 20
        assert told[0].startswith(
            f"mine: answers end at 20 tokens, not at the 32 of 'arithmetic': {tmp_path / 'short'}'s"
        )
        told.clear()
        plan = make_plan(PairsFile((pair,)), settings, notify=told.append)
        assert plan.pairs[0].answering[0].answer_tokens == 30 * 20
        assert len(told) == 1
        told.clear()


PAIRS = """
[settings]
{settings}
[[questions]]
name = "ours"
file = "set.jsonl"
{own}
[[pair]]
name = "a"
before = "org/a"
after = "org/b"
algorithm = "sft"
questions = ["ours", "gsm8k"]
"""


@pytest.mark.parametrize(
    ("own", "everywhere", "typed", "ours", "gsm8k"),
    [
        (None, None, None, 512, 512),
        (9, None, None, 9, 512),
        (None, 70, None, 70, 70),
        (9, 70, None, 9, 70),  # the file's value for one set takes precedence over its value for all
        (9, 70, 5, 5, 5),  # the command line takes precedence over the file
        (9, None, 5, 5, 5),
    ],
)
def test_what_is_typed_goes_before_a_sets_own_and_that_before_the_files(
    own: int | None, everywhere: int | None, typed: int | None, ours: int, gsm8k: int, tmp_path: Path
) -> None:
    questions_file(tmp_path)
    settings = "" if everywhere is None else f"sampling.max_new_tokens = {everywhere}\nsampling.temperature = 0.5"
    text = PAIRS.format(settings=settings, own="" if own is None else f"max_new_tokens = {own}")
    (tmp_path / "pairs.toml").write_text(text)
    file = load_pairs_file(tmp_path / "pairs.toml")
    made = file.make_settings({} if typed is None else {"sampling": {"max_new_tokens": typed}})
    assert made.sampling.temperature == (1.0 if everywhere is None else 0.5)
    found = []
    for pair in file.pairs:
        source = pair.questions.model_copy(update={"file": tmp_path / "set.jsonl"})
        found.append(choose_max_new_tokens(made.sampling, load_questions(source), []).max_new_tokens)
    assert found == [ours, gsm8k]
