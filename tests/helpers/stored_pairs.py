"""Read answers, scores and comparisons that an earlier version stored in `tests/stored/`, or store them.

Run from the root of the repository, because the cache keys contain relative paths of checkpoints:
`PYTHONPATH=tests python -m helpers.stored_pairs` stores whatever is missing.
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
SETTINGS = Settings(question_count=40, k=16, min_questions=8, noise_draws=1, sampling=_SAMPLING)

PAIRS = tuple(
    Pair(name=algorithm, before=f"{_BASE}/sft", after=f"{_BASE}/{algorithm}", algorithm=algorithm)
    for algorithm in ("grpo", "sft-clean")
)

GRADERS = ("math", "exact")


def compare_pair(pair: Pair, folder: Path, notify: Callable[[str], None]) -> Comparison:
    """Compare one of the pairs, with what `folder` caches."""
    return run_pair(pair, SETTINGS, output=folder, notify=notify)


def graded_answers(grader: str, folder: Path, notify: Callable[[str], None]) -> Answers:
    """Answer and grade the questions of a file, with what `folder` caches."""
    questions = load_questions(QuestionSource(name=f"sums-{grader}", file=STORED / "sums.jsonl", grader=grader))
    return answer_questions(
        CheckpointSource(f"{_BASE}/sft"), questions, sampling=_SAMPLING, store=folder / "store", notify=notify
    )


if __name__ == "__main__":
    for pair in PAIRS:
        print(compare_pair(pair, STORED, print))
    for grader in GRADERS:
        print(graded_answers(grader, STORED, print))
