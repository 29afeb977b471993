r"""How well the `math` grader knows right answers from wrong ones.

    python -m rlcircuits.questions.audit FILE...

Every gold answer of a file is written in several disguises, each of which must grade as correct, and changed in
several ways, each of which must grade as wrong. A table of the rates comes first, then every failure with its
question's id. The file of a published set is known by its name: `gsm8k_test.jsonl` is read as `gsm8k`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.progress import progress_when_slow
from rlcircuits.questions.grading.disguises import CHANGES, DISGUISES
from rlcircuits.questions.grading.graders import grade_answer, grader
from rlcircuits.questions.grading.notations import NOTATIONS, OTHER_NUMBERS
from rlcircuits.questions.loading import load_questions
from rlcircuits.questions.question_set import Question
from rlcircuits.questions.source import PUBLISHED, QuestionSource

__all__ = ["Outcome", "check", "main", "rates", "source_of"]

_CORRECT = DISGUISES | NOTATIONS
_WRONG = CHANGES | OTHER_NUMBERS


@dataclass(frozen=True)
class Outcome:
    """One rewritten gold answer and its grade."""

    question_id: str
    gold: str
    rewrite: str
    text: str
    as_wanted: bool
    problem: str | None


def source_of(file: Path) -> QuestionSource:
    """Return the source a file's name tells of: `gsm8k_test.jsonl` holds `gsm8k`; any other name a set of its own."""
    found = [name for name in PUBLISHED if re.fullmatch(rf"{name}(?:[_.-].*)?", file.stem)]
    return QuestionSource(name=max(found, key=len, default=re.sub(r"[^\w.+-]", "-", file.stem)), file=file)


def check(questions: Sequence[Question]) -> list[Outcome]:
    """Grade every disguise and every change of the questions' gold answers with the `math` grader."""
    grade = grader("math")
    outcomes = []
    with progress_when_slow("grading", len(questions)) as advance:
        for question in questions:
            gold = question.gold
            for wanted, rewrites in ((True, _CORRECT), (False, _WRONG)):
                for name, rewrite in rewrites.items():
                    text = rewrite(gold)
                    if text is not None:
                        given = grade_answer(grade, text, gold)
                        outcomes.append(Outcome(question.id, gold, name, text, given.correct is wanted, given.problem))
            advance()
    return outcomes


def rates(outcomes: Iterable[Outcome]) -> dict[str, tuple[int, int]]:
    """Return (as wanted, of how many) for every disguise and change that occurred."""
    found: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        good, total = found.get(outcome.rewrite, (0, 0))
        found[outcome.rewrite] = (good + outcome.as_wanted, total + 1)
    return found


def show_rates(by_set: dict[str, list[Outcome]]) -> str:
    """Return a Markdown table: one row a disguise or change, one column a set."""
    columns = {name: rates(outcomes) for name, outcomes in by_set.items()}

    def cell(rate: tuple[int, int] | None) -> str:
        return "" if rate is None else f"{rate[0]} / {rate[1]} ({100 * rate[0] / rate[1]:.2f} %)"

    rows = []
    for title, rewrites in (("correct", _CORRECT), ("wrong", _WRONG)):
        for name in rewrites:
            if any(name in column for column in columns.values()):
                rows.append([title, f"`{name}`", *(cell(column.get(name)) for column in columns.values())])
    return tabulate(rows, headers=["must be", "gold answer", *columns], tablefmt="github", disable_numparse=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rates and failures of each file named; 0 when every file could be read."""
    parser = argparse.ArgumentParser(prog="python -m rlcircuits.questions.audit", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines of a published set")
    parser.add_argument("--count", type=int, help="questions drawn from each file; all of them by default")
    options = parser.parse_args(arguments)
    by_set = {}
    try:
        for file in options.files:
            source = source_of(file)
            questions = load_questions(source, count=options.count).questions
            by_set[f"{source.name} ({len(questions):,})"] = check(questions)
    except RLCircuitsError as error:
        print(error, file=sys.stderr)
        return 2
    print(show_rates(by_set))
    for name, outcomes in by_set.items():
        for outcome in outcomes:
            if not outcome.as_wanted:
                print(f"\n{name}: {outcome.question_id}: {outcome.rewrite}")
                print(
                    *filter(None, (f"  gold {outcome.gold!r}", f"  text {outcome.text!r}", outcome.problem)), sep="\n"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
