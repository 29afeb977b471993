"""Answers, scores and comparisons as an earlier version stored them in `tests/stored/`.

Run from the root of the repository: names of checkpoints are in keys as they were given.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlcircuits import (
    Answers,
    CheckpointSource,
    Comparison,
    Pair,
    QuestionSource,
    Sampling,
    Settings,
    answer_questions,
    load_questions,
    run_pair,
)

STORED = Path("tests/stored")
_BASE = "fixtures/llama-sums/seed-7"
_SAMPLING = Sampling(max_new_tokens=32)
_SETTINGS = Settings(question_count=40, k=16, min_questions=8, noise_draws=1, sampling=_SAMPLING)

PAIRS = tuple(
    Pair(name=algorithm, before=f"{_BASE}/sft", after=f"{_BASE}/{algorithm}", algorithm=algorithm)
    for algorithm in ("grpo", "sft-clean")
)

GRADERS = ("math", "exact")


def compare_pair(pair: Pair, folder: Path, notify: Callable[[str], None]) -> Comparison:
    """Measure one of the pairs, or take from `folder` what is there."""
    return run_pair(pair, _SETTINGS, output=folder, notify=notify)


def graded_answers(grader: str, folder: Path, notify: Callable[[str], None]) -> Answers:
    """Answer questions of a file with a grader of that name, or take from `folder` what is there."""
    questions = load_questions(QuestionSource(name=f"sums-{grader}", file=STORED / "sums.jsonl", grader=grader))
    return answer_questions(
        CheckpointSource(f"{_BASE}/sft"), questions, sampling=_SAMPLING, store=folder / "store", notify=notify
    )


if __name__ == "__main__":
    for pair in PAIRS:
        print(compare_pair(pair, STORED, print))
    for grader in GRADERS:
        print(graded_answers(grader, STORED, print))
