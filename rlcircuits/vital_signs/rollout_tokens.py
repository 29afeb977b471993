"""Stored rollouts as token ids that a model can score, with the marks of what in them is not the model's.

Beside the names of :mod:`rlcircuits.vital_signs.rollouts` a line has:

- the prompt: ``prompt_ids``; else ``prompt`` or ``input``, a text, or messages of a chat, which the tokenizer's chat
  template makes a prompt of;
- ``answer_ids``: all tokens after the prompt, tools' results included. A text is not tokenized again, which would give
  other tokens than were drawn where a tool's result was pasted in;
- ``segments``: a list of [start, stop], the tokens of the answer from start up to before stop that are not the model's;
  or ``response_mask`` or ``loss_mask``, which has a 1 for each token of the answer that is the model's and a 0 for each
  other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from rlcircuits.answers.types import Sampling
from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.graph.sequences import AnswerSequence
from rlcircuits.vital_signs.reopening import Segment
from rlcircuits.vital_signs.rollouts import load_rollouts, rollout_records
from rlcircuits.vital_signs.scored_answers import ScoredAnswers

__all__ = ["TokenRollouts", "load_token_rollouts", "read_segments"]

_MASKS = ("response_mask", "loss_mask")
_PROMPTS = ("prompt", "input")


@dataclass(frozen=True, eq=False)
class TokenRollouts:
    """Rollouts that a model can score."""

    answers: ScoredAnswers
    segments: tuple[tuple[Segment, ...], ...] | None
    """Of each answer what is not the model's; None where no line says it."""


def load_token_rollouts(
    path: str | Path, tokenizer: Any, temperature: float = 1.0, context: int | None = None
) -> TokenRollouts:
    """Return the rollouts in a file as token ids.

    Args:
        path: JSON lines; see the module's docstring.
        tokenizer: makes token ids of prompts that are texts or chats.
        temperature: at which the answers were drawn.
        context: most tokens that the models can read; None if that is not known.

    Raises:
        RLCircuitsError: the file cannot be read, a line is no rollout, lacks its prompt or token ids, is longer than
            the context, or has marks that do not fit its answer; the message names the line.
    """
    rollouts, records = load_rollouts(path), rollout_records(path)
    sequences, questions, right, segments, tokens = [], [], [], [], len(tokenizer)
    for rollout, (where, record) in zip(rollouts, records, strict=True):
        ids = _ids(where, record, "answer_ids")
        if ids is None:
            raise RLCircuitsError(
                f"{where}: no answer_ids; the token ids of the answer are wanted to run the models on it"
            )
        if not ids:
            continue
        prompt = _prompt(where, record, tokenizer)
        if (largest := max(*prompt, *ids)) >= tokens:
            raise RLCircuitsError(f"{where}: has token id {largest}; the tokenizer has {tokens:,} tokens, from 0 on")
        sequence = AnswerSequence(prompt, ids)
        if context is not None and sequence.input_length > context:
            raise RLCircuitsError(
                f"{where}: the models would read {sequence.input_length:,} tokens of prompt and answer, more than "
                f"their context of {context:,}; leave the line out"
            )
        sequences.append(sequence)
        questions.append(rollout.question)
        right.append(rollout.correct)
        segments.append(read_segments(where, record, len(ids)))
    if not sequences:
        raise RLCircuitsError(f"{path}: no answer has a token")
    places = {question: place for place, question in enumerate(dict.fromkeys(questions))}
    answers = ScoredAnswers(
        model=str(path),
        sampling=Sampling(temperature=temperature),
        sequences=tuple(sequences),
        questions=tuple(places),
        rows=np.array([places[question] for question in questions], dtype=np.int64),
        right=np.array(right, dtype=bool),
    )
    marked = any(each is not None for each in segments)
    return TokenRollouts(answers, tuple(each or () for each in segments) if marked else None)


def read_segments(where: str, record: Mapping[str, Any], tokens: int) -> tuple[Segment, ...] | None:
    """Return what in an answer is not the model's; None where the line does not say it.

    Args:
        where: the line's place, for messages.
        record: the line.
        tokens: number of the answer's tokens.

    Raises:
        RLCircuitsError: the marks do not fit the answer.
    """
    if (stated := record.get("segments")) is not None:
        edges = [edge for each in stated for edge in each] if _are_pairs(stated) else None
        if edges is None or edges != sorted(edges) or (edges and not 0 <= edges[0] <= edges[-1] <= tokens):
            raise RLCircuitsError(
                f"{where}: segments are {truncated_repr(stated)}; a list of [start, stop] in order, from 0 to the "
                f"answer's {tokens} tokens, is wanted"
            )
        return tuple((start, stop) for start, stop in stated)
    name = next((name for name in _MASKS if record.get(name) is not None), None)
    if name is None:
        return None
    mask = record[name]
    if not isinstance(mask, list) or len(mask) != tokens or any(each not in (0, 1) for each in mask):
        raise RLCircuitsError(f"{where}: {name} is wrong; 0 or 1 for each of the answer's {tokens} tokens is wanted")
    found, place = [], 0
    for own, run in groupby(mask):
        stop = place + len(list(run))
        if not own:
            found.append((place, stop))
        place = stop
    return tuple(found)


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, list) and len(each) == 2 and all(type(edge) is int for edge in each) for each in value
    )


def _ids(where: str, record: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(each) is int and each >= 0 for each in value):
        raise RLCircuitsError(f"{where}: {name} is {truncated_repr(value)}; a list of token ids is wanted")
    return tuple(value)


def _prompt(where: str, record: Mapping[str, Any], tokenizer: Any) -> tuple[int, ...]:
    """Return a line's prompt as token ids."""
    ids = _ids(where, record, "prompt_ids")
    prompt: Any = next((record[name] for name in _PROMPTS if record.get(name) is not None), None)
    try:
        if ids is None and isinstance(prompt, str):
            ids = tuple(tokenizer(prompt)["input_ids"])
        elif ids is None and isinstance(prompt, Sequence):
            text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
            ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:  # tokenizers and chat templates raise errors of many types
        raise RLCircuitsError(
            f"{where}: the prompt cannot be made token ids: {one_line(error)}; give prompt_ids"
        ) from None
    if not ids:
        raise RLCircuitsError(
            f"{where}: no prompt; prompt_ids, or {' or '.join(_PROMPTS)} (a text, or messages of a chat), is wanted to "
            "run the models"
        )
    return ids
