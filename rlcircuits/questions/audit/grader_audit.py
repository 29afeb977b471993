"""Grade rewritten reference answers, each of which has a known grade, and count how often the grader gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from rlcircuits.common.progress import progress_when_slow
from rlcircuits.questions.audit.disguises import CHANGES, DISGUISES
from rlcircuits.questions.audit.notations import NOTATIONS, OTHER_NUMBERS
from rlcircuits.questions.grading.graders import grade_answer, grader
from rlcircuits.questions.question_set import Question
from rlcircuits.questions.source import PUBLISHED, QuestionSource

__all__ = ["CORRECT", "WRONG", "Outcome", "audit_math_grader", "rates", "rates_table", "source_of"]

CORRECT = DISGUISES | NOTATIONS
"""Rewrites, by name, that must grade as correct."""
WRONG = CHANGES | OTHER_NUMBERS
"""Rewrites, by name, that must grade as wrong."""


@dataclass(frozen=True)
class Outcome:
    """One rewritten reference answer and its grade."""

    question_id: str
    gold: str
    rewrite: str
    """The rewrite's name, a key of :data:`CORRECT` or :data:`WRONG`."""
    text: str
    """What the rewrite wrote, which was graded."""
    as_wanted: bool
    """True when the grade was the known one."""
    problem: str | None
    """Why the grader failed; None when it gave a grade."""


def source_of(file: Path) -> QuestionSource:
    """Return the source of a file's questions.

    A file of a published set is recognized by its name: `gsm8k_test.jsonl` is read as `gsm8k`. Any other file is a set
    that is named after the file.
    """
    found = [name for name in PUBLISHED if re.fullmatch(rf"{name}(?:[_.-].*)?", file.stem)]
    return QuestionSource(name=max(found, key=len, default=re.sub(r"[^\w.+-]", "-", file.stem)), file=file)


def audit_math_grader(questions: Sequence[Question]) -> list[Outcome]:
    """Grade every rewrite of the questions' reference answers with the `math` grader."""
    grade = grader("math")
    outcomes = []
    with progress_when_slow("grading", len(questions)) as advance:
        for question in questions:
            gold = question.gold
            for wanted, rewrites in ((True, CORRECT), (False, WRONG)):
                for name, rewrite in rewrites.items():
                    text = rewrite(gold)
                    if text is not None:
                        given = grade_answer(grade, text, gold)
                        outcomes.append(Outcome(question.id, gold, name, text, given.correct is wanted, given.problem))
            advance()
    return outcomes


def rates(outcomes: Iterable[Outcome]) -> dict[str, tuple[int, int]]:
    """Return, for every rewrite that occurred, how many answers got the known grade, and of how many."""
    found: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        good, total = found.get(outcome.rewrite, (0, 0))
        found[outcome.rewrite] = (good + outcome.as_wanted, total + 1)
    return found


def rates_table(by_set: dict[str, list[Outcome]]) -> str:
    """Return a Markdown table of rates, with one row for each rewrite and one column for each question set."""
    columns = {name: rates(outcomes) for name, outcomes in by_set.items()}

    def cell(rate: tuple[int, int] | None) -> str:
        return "" if rate is None else f"{rate[0]} / {rate[1]} ({100 * rate[0] / rate[1]:.2f} %)"

    rows = []
    for title, rewrites in (("correct", CORRECT), ("wrong", WRONG)):
        for name in rewrites:
            if any(name in column for column in columns.values()):
                rows.append([title, f"`{name}`", *(cell(column.get(name)) for column in columns.values())])
    return tabulate(rows, headers=["must be", "gold answer", *columns], tablefmt="github", disable_numparse=True)
