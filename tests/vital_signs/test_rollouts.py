"""Stored rollouts of this project, TRL, verl and OpenRLHF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcircuits import RLCircuitsError
from rlcircuits.vital_signs.rollout_summary import summarize_rollouts
from rlcircuits.vital_signs.rollouts import load_rollouts


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


FORMATS = {
    "own": lambda q, right, step: {"question_id": q, "sample": 0, "answer_ids": [1, 2], "correct": right, "step": step},
    "trl": lambda q, right, step: {"step": step, "prompt": q, "completion": "a b", "reward": float(right)},
    "trl-chat": lambda q, right, step: {
        "step": step,
        "prompt": [{"role": "user", "content": q}],
        "completion": [{"role": "assistant", "content": "a b"}],
        "reward": float(right),
    },
    "verl": lambda q, right, step: {"input": q, "output": "a b", "score": 2.0 * right - 1, "step": step},
    "openrlhf": lambda q, right, step: {"input": q, "output": "a b", "reward": float(right), "global_step": step},
}


@pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_counts(make: Any, tmp_path: Path) -> None:
    lines = [
        make(q, right, step) for step in (1, 2) for q, right in [("a", True), ("a", False), ("b", True), ("b", True)]
    ]
    first, second = summarize_rollouts(load_rollouts(write(tmp_path / "rollouts.jsonl", lines)))
    assert (first.step, second.step) == (1, 2)
    assert (first.questions, first.answers, first.accuracy) == (2, 4, 0.75)
    assert (first.solved, first.dead, first.pass_at_k) == (0.5, 0.0, 1.0)
    assert first.small_advantages == 0.5
    assert first.right_length is not None


MESSAGES = [
    {"role": "user", "content": "9 users 9"},
    {"role": "assistant", "content": "one two"},
    {"role": "tool", "content": "a result of six words indeed"},
    {"role": "assistant", "content": [{"type": "text", "text": "three"}, {"type": "image"}]},
    {"role": "assistant", "content": None, "tool_calls": []},
]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (MESSAGES, "one two\nthree"),
        (MESSAGES[1], "one two"),
        ([{"content": "no role"}], "no role"),
        ([], ""),
        ("as it is", "as it is"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_of_a_chat_what_the_assistant_says_is_measured(answer: Any, text: str, tmp_path: Path) -> None:
    (found,) = load_rollouts(write(tmp_path / "r.jsonl", [{"id": "a", "completion": answer, "reward": 1}]))
    assert (found.text, found.length) == (text, len(text.split()))


def test_tools_results_are_counted(tmp_path: Path) -> None:
    lines = [{"id": "a", "reward": 1, **more} for more in ({"segments": [[1, 2], [4, 6]]}, {"segments": []}, {})]
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path / "r.jsonl", lines)))
    assert found.calls == 1.0


def test_without_an_answer_there_is_no_length_and_no_format(tmp_path: Path) -> None:
    """A trainer's file may have the answer under a name that is not read."""
    lines = [{"id": "a", "reward": reward, "answer": "1 + 1 = 2"} for reward in (0, 1)]
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path / "r.jsonl", lines)))
    assert (found.right_length, found.wrong_length, found.formats) == (None, None, None)
    mixed = [{**lines[0], "text": "a b c"}, {**lines[0], "answer_ids": [1]}, lines[1]]
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path / "m.jsonl", mixed)))
    assert (found.right_length, found.wrong_length) == (None, 2.0)


@given(grades=st.lists(st.lists(st.booleans(), min_size=2, max_size=8), min_size=1, max_size=5))
def test_small_advantages_are_those_of_silent_groups(tmp_path_factory: Any, grades: list[list[bool]]) -> None:
    """With binary rewards in groups of at most eight, only a silent group has advantages below 0.1."""
    lines = [{"question_id": str(q), "correct": right} for q, group in enumerate(grades) for right in group]
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path_factory.mktemp("r") / "r.jsonl", lines)))
    silent = sum(len(group) for group in grades if len(set(group)) == 1)
    assert found.small_advantages == pytest.approx(silent / sum(map(len, grades)))
    assert found.accuracy == pytest.approx(np.mean([np.mean(group) for group in grades]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "rollouts.jsonl:1: it is no JSON"),
        ("[1]", "rollouts.jsonl:1: found a list; a JSON object is wanted"),
        ("[" * 100_000, "rollouts.jsonl:1: it holds too many lists"),
        (f'{{"id": "a", "reward": 1{"0" * 400}}}', "rollouts.jsonl:1: the reward is 10"),
        ('{"id": "a", "reward": 1e300}', "the reward is 1e[+]300; a finite number from"),
        ('{"id": "a", "correct": "yes", "reward": 1}', "correct is a text, 'yes'; true or false"),
        ('{"id": "a", "correct": 1}', "correct is a number, 1; true or false"),
        ('{"id": "a", "reward": -1}\n{"id": "a", "reward": 0}', "the largest reward is 0, so that which answers"),
        ('{"question_id": "a"}', "no grade; correct"),
        ('{"reward": 1}', "no question; one of question_id"),
        ('{"question_id": "a", "reward": NaN}', "the reward is nan; a finite number"),
        ('{"question_id": "a", "reward": "1"}', "the reward is '1'; a finite number"),
        ('{"question_id": "a", "reward": true}', "the reward is True; a finite number"),
        ('{"question_id": "a", "reward": 1, "step": "x"}', "the step is 'x'; a whole number"),
        ('{"id": "a", "reward": 1, "answer_ids": 5}', "rollouts.jsonl:1: answer_ids is 5; a list of token ids"),
        ('{"id": "a", "reward": 1, "segments": 5}', "rollouts.jsonl:1: segments are 5; a list of"),
        ('{"id": "a", "reward": 1, "segments": [{"role": "tool"}]}', "segments are .*'tool'.*; a list of"),
        ("", "it is empty"),
    ],
)
def test_bad_lines_are_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_text(line)
    with pytest.raises(RLCircuitsError, match=message):
        load_rollouts(path)


def test_one_answer_to_each_question(tmp_path: Path) -> None:
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path / "r.jsonl", [{"id": "a", "reward": 0.0}])))
    assert (found.solved, found.small_advantages, found.pass_at_k, found.accuracy) == (None, None, None, 0.0)


def test_graded_answers_may_have_negative_rewards(tmp_path: Path) -> None:
    lines = [{"id": "a", "correct": right, "reward": right - 2.0} for right in (True, False)]
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path / "r.jsonl", lines)))
    assert found.accuracy == 0.5


def test_no_answer_was_right(tmp_path: Path) -> None:
    (found,) = summarize_rollouts(load_rollouts(write(tmp_path / "r.jsonl", [{"id": "a", "reward": 0}] * 2)))
    assert (found.accuracy, found.dead) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("answers", "message"), [(2, "of step 7 has 2 answers; give --group from 2 to 2"), (1, "has 1 answer; leave")]
)
def test_a_group_larger_than_the_answers(answers: int, message: str, tmp_path: Path) -> None:
    rollouts = load_rollouts(write(tmp_path / "r.jsonl", [{"id": "a", "reward": 1, "step": 7}] * answers))
    with pytest.raises(RLCircuitsError, match=message):
        summarize_rollouts(rollouts, group=3)
