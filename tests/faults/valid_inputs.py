"""Valid inputs, from which the faults are made."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from helpers.paths import SEED_7
from helpers.synthetic_comparisons import made_up_comparison

from rlcircuits.answers.answer_file import Answers
from rlcircuits.answers.types import Answer, Sampling
from rlcircuits.checkpoints.source import CheckpointSource
from rlcircuits.comparison.storage import to_json

BEFORE, AFTER = str(SEED_7 / "sft"), str(SEED_7 / "grpo")

ASKED = {"41+30+12?": "83", "10+11+12?": "33", "55+44+11?": "110"}

QUESTIONS = "".join(
    f'{{"id": "q{place}", "question": "{text}", "answer": "{answer}", "more": [{place}]}}\n'
    for place, (text, answer) in enumerate(ASKED.items())
)
"""Three questions, as JSON lines."""


@cache
def answers() -> bytes:
    """Return a file of correct answers to `QUESTIONS`, as ``rlcircuits answer`` writes it."""
    tokenizer = CheckpointSource(BEFORE).tokenizer()
    items = tuple(
        Answer(
            f"q{place}",
            tuple(tokenizer(text)["input_ids"]),
            tuple(tokenizer(answer, add_special_tokens=False)["input_ids"]),
            answer,
            correct=True,
            finished=True,
        )
        for place, (text, answer) in enumerate(ASKED.items())
    )
    with TemporaryDirectory() as folder:
        file = Path(folder, "answers.jsonl")
        Answers(BEFORE, "ours", "test", Sampling(), items).save(file)
        return file.read_bytes()


@cache
def rollouts() -> bytes:
    """Return the same answers as rollouts, each twice."""
    lines = [json.loads(line) for line in answers().splitlines()[1:]]
    return "".join(f"{json.dumps({**line, 'step': 1})}\n" for line in lines for _ in range(2)).encode()


@cache
def comparison() -> bytes:
    """Return the ``comparison.json`` of a pair."""
    return to_json(made_up_comparison("one", questions=20, controls=(1.01, 0))).encode()
