r"""How often the `math` grader is right.

    python -m rlcircuits.questions.audit FILE...

Every reference answer of a file is written in many ways that must grade as correct, and in many that must grade as
wrong. A table of the rates comes first, then every wrong grade with its question's id. A file of a published set is
recognized by its name: `gsm8k_test.jsonl` is read as `gsm8k`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.questions.audit.grader_audit import audit_math_grader, rates_table, source_of
from rlcircuits.questions.loading import load_questions


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rates and the wrong grades of each file; return 0, or 2 if a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m rlcircuits.questions.audit", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines of a published set")
    parser.add_argument("--count", type=int, help="questions drawn from each file; all of them by default")
    options = parser.parse_args(arguments)
    by_set = {}
    try:
        for file in options.files:
            source = source_of(file)
            questions = load_questions(source, count=options.count).questions
            by_set[f"{source.name} ({len(questions):,})"] = audit_math_grader(questions)
    except RLCircuitsError as error:
        print(error, file=sys.stderr)
        return 2
    print(rates_table(by_set))
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
