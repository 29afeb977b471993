"""Read stored rollouts: JSON lines that this project, TRL, verl or OpenRLHF wrote, one answer on each line.

For each of these, the first name that a line has is used:

- the question: ``question_id``, ``id``, ``prompt``, ``input``;
- the grade: ``correct``, or whether ``reward``, ``score`` or ``accuracy`` is above half of the largest reward;
- the answer: ``text``, ``completion``, ``output``, ``response``; of messages of a chat what the assistant says; its
  length by ``answer_ids``, else in words;
- the training step: ``step``, ``global_step``, ``iteration``;
- tools' results in the answer: the number of ``segments`` (see :mod:`rlcircuits.vital_signs.rollout_tokens`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlcircuits.common.errors import RLCircuitsError, truncated_repr
from rlcircuits.common.input_files import read_lines
from rlcircuits.common.json_files import json_type_name, parse_json_object
from rlcircuits.vital_signs.counts import Counts

__all__ = ["Rollout", "load_rollouts", "rollout_counts", "rollout_records", "steps_of"]

_QUESTION = ("question_id", "id", "prompt", "input")
_REWARD = ("reward", "score", "accuracy")
_TEXT = ("text", "completion", "output", "response")
_STEP = ("step", "global_step", "iteration")

_LARGEST = 1e100
"""Largest reward; the squares of larger ones overflow."""


@dataclass(frozen=True)
class Rollout:
    """One stored answer."""

    question: str
    """Id of the question, or its prompt."""
    text: str
    """Empty where the line has none."""
    reward: float
    correct: bool
    length: int | None
    """Tokens, or words where the line has no token ids; None where it has no answer."""
    step: int | None
    """Training step; None where the file does not say."""
    calls: int | None = None
    """Tools' results in the answer, by its ``segments``; None where the line has none."""


def load_rollouts(path: str | Path) -> tuple[Rollout, ...]:
    """Return the rollouts in a file.

    Args:
        path: JSON lines; see the module's docstring for the names that are read.

    Raises:
        RLCircuitsError: the file cannot be read, or a line is no rollout; the message names the line.
    """
    records = rollout_records(path)
    rewards = [_reward(where, record) for where, record in records]
    most = max(rewards)
    if most <= 0 and min(rewards) < 0 and not all(record.get("correct") is not None for _, record in records):
        raise RLCircuitsError(
            f"{path}: the largest reward is {most:g}, so that which answers are right cannot be told; give each line "
            "correct (true or false), or rewards of which the largest is above 0"
        )
    return tuple(_rollout(where, record, most) for where, record in records)


def rollout_records(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Return where each line of a file stands, and its JSON object.

    Raises:
        RLCircuitsError: the file cannot be read, or a line is no JSON object.
    """
    records = []
    for where, line in read_lines(path, "rollouts"):
        if not line.strip():
            continue
        try:
            records.append((where, parse_json_object(line)))
        except RLCircuitsError as error:
            raise RLCircuitsError(f"{where}: {error}; JSON lines are wanted, one answer on each") from None
    return records


def rollout_counts(rollouts: Sequence[Rollout]) -> Counts:
    """Return right answers and answers, by question."""
    right: dict[str, list[bool]] = {}
    for each in rollouts:
        right.setdefault(each.question, []).append(each.correct)
    totals = [(sum(grades), len(grades)) for grades in right.values()]
    both = np.array(totals, dtype=np.int64).reshape(-1, 2)
    return Counts(tuple(right), both[:, 0], both[:, 1])


def steps_of(rollouts: Sequence[Rollout]) -> Mapping[int | None, tuple[Rollout, ...]]:
    """Return the rollouts of each training step, in order of the steps."""
    found: dict[int | None, list[Rollout]] = {}
    for each in rollouts:
        found.setdefault(each.step, []).append(each)
    return {step: tuple(found[step]) for step in sorted(found, key=lambda step: -1 if step is None else step)}


def _rollout(where: str, record: dict[str, Any], most: float) -> Rollout:
    question, text = _first(record, _QUESTION), _first(record, _TEXT)
    if question is None:
        raise RLCircuitsError(f"{where}: no question; one of {', '.join(_QUESTION)} is wanted")
    reward = _reward(where, record)
    ids, segments = record.get("answer_ids"), record.get("segments")
    if ids is not None and not isinstance(ids, list):
        raise RLCircuitsError(f"{where}: answer_ids is {truncated_repr(ids)}; a list of token ids is wanted")
    if segments is not None and not _are_pairs(segments):
        raise RLCircuitsError(f"{where}: segments are {truncated_repr(segments)}; a list of [start, stop] is wanted")
    step = _first(record, _STEP)
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        raise RLCircuitsError(f"{where}: the step is {truncated_repr(step)}; a whole number is wanted")
    correct, answer = record.get("correct"), _said(text)
    return Rollout(
        question=_plain(question),
        text=answer,
        reward=reward,
        correct=correct if isinstance(correct, bool) else reward > most / 2,
        length=len(ids) if ids is not None else None if text is None else len(answer.split()),
        step=step,
        calls=None if segments is None else len(segments),
    )


def _reward(where: str, record: dict[str, Any]) -> float:
    correct = record.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise RLCircuitsError(
            f"{where}: correct is {json_type_name(correct)}, {truncated_repr(correct)}; true or false is wanted"
        )
    value = float(correct) if isinstance(correct, bool) else _first(record, _REWARD)
    if value is None:
        raise RLCircuitsError(f"{where}: no grade; correct (true or false) or one of {', '.join(_REWARD)} is wanted")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise RLCircuitsError(
            f"{where}: the reward is {truncated_repr(value)}; a finite number from {-_LARGEST:g} to {_LARGEST:g} is "
            "wanted"
        )
    return float(value)


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, list) and len(each) == 2 for each in value)


def _first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _plain(value: object) -> str:
    """Return a text as it is, and messages of a chat as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _said(value: object) -> str:
    """Return an answer's text: of messages of a chat what the assistant says, without tools' results and roles."""
    if value is None:
        return ""
    messages = [value] if isinstance(value, dict) else value
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        return _plain(value)
    said = [_content(each.get("content")) for each in messages if each.get("role", "assistant") == "assistant"]
    return "\n".join(text for text in said if text)


def _content(content: object) -> str:
    """Return the text of a message's content: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
