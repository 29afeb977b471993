r"""How well the `math` grader knows right answers from wrong ones.

    python -m rlcircuits.questions.check FILE...

Every gold answer of a file is written in several disguises, each of which must grade as correct, and changed in
several ways, each of which must grade as wrong. A table of the rates comes first, then every failure with its
question's id. The file of a published set is known by its name: `gsm8k_test.jsonl` is read as `gsm8k`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from tabulate import tabulate

from rlcircuits.errors import RLCircuitsError
from rlcircuits.progress import progress_bar
from rlcircuits.questions import Question, QuestionSource, load_questions
from rlcircuits.questions.grading import grade_answer, grader
from rlcircuits.questions.latex import tidy, without_units
from rlcircuits.questions.source import PUBLISHED
from rlcircuits.questions.symbolic import parsed

__all__ = ["CHANGES", "DISGUISES", "Outcome", "check", "main", "source_of"]

Rewrite = Callable[[str], str | None]
"""Writes a gold answer in another way; None where that way does not fit it."""

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_NUMERIC = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d*\.?\d+)")
_FRACTION = re.compile(r"(-?)\\d?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")


@dataclass(frozen=True)
class Outcome:
    """One rewritten gold answer and its grade."""

    question_id: str
    gold: str
    rewrite: str
    text: str
    as_wanted: bool
    problem: str | None


def _bare(gold: str) -> str:
    """Return a gold answer without the dollar signs around it, if it is one formula or number."""
    gold = gold.strip().rstrip(".")
    inner = gold[1:-1] if len(gold) > 1 and gold[0] == gold[-1] == "$" and gold.count("$") == 2 else gold
    return inner.strip()


def _plain_number(gold: str) -> str | None:
    number = _bare(gold)
    return number.replace(",", "") if _NUMERIC.fullmatch(number) else None


def _inline(gold: str) -> str:
    """Write a gold answer as it stands in a sentence: LaTeX between dollar signs."""
    return f"${gold}$" if "\\" in gold and "$" not in gold else gold


def _formula(gold: str) -> str:
    r"""Write a gold answer as one formula, words in \text{}."""
    pieces = re.split(r"(?<!\\)\$+", gold)
    if len(pieces) == 1 or "\\" in pieces[0]:
        return gold if "\\" in gold or re.search(r"\d", gold) or len(gold) < 2 else rf"\text{{{gold}}}"
    return "".join(
        piece if place % 2 else re.sub(r"[^\s,;.]+(?:\s+[^\s,;.]+)*", lambda words: rf"\text{{ {words[0]} }}", piece)
        for place, piece in enumerate(pieces)
    )


def _is_formula(gold: str) -> bool:
    return "$" not in _bare(gold) and not re.search(r"(?<![\\A-Za-z])[A-Za-z]{2,}|\\(?:text|mbox)|\n", _bare(gold))


def _grouped(gold: str, comma: str) -> str | None:
    number = _plain_number(gold)
    if number is None or not _INTEGER.fullmatch(number) or abs(int(number)) < 1000:
        return None
    return f"{int(number):,}".replace(",", comma)


def _decimal(gold: str) -> str | None:
    match = _FRACTION.fullmatch(_bare(gold))
    if not match:
        return None
    value = Fraction(int(match[2] or match[3]), int(match[4] or match[5]))
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{match[1]}{decimal}" if Fraction(decimal) == value else None


def _fraction(gold: str) -> str | None:
    number = _plain_number(gold)
    if number is None or "." not in number:
        return None
    value = Fraction(number)
    return rf"{'-' if value < 0 else ''}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _slash(gold: str) -> str | None:
    match = _FRACTION.fullmatch(_bare(gold))
    return match and f"{match[1]}{match[2] or match[3]}/{match[4] or match[5]}"


def _short_fraction(gold: str) -> str | None:
    short = re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", gold)
    return _inline(short) if short != gold else None


def _wide_parentheses(gold: str) -> str | None:
    bare = _bare(gold)
    if not _is_formula(gold) or "(" not in bare or re.search(r"\\left|\\right|\\[()]|[\[\]]", bare):
        return None
    return "$" + bare.replace("(", r"\left( ").replace(")", r" \right)") + "$"


def _other_order(gold: str) -> str | None:
    parts = _bare(gold).split(",")
    alone = all(re.fullmatch(r"\s*-?(?:\d+|\\frac\{\d+\}\{\d+\})\s*", part) for part in parts)
    if len(parts) < 2 or not alone or re.fullmatch(r"-?\d{1,3}(,\d{3})+", _bare(gold)):  # one number, not a list
        return None
    return " and ".join(f"${part.strip()}$" for part in reversed(parts))


def _by_sympy(gold: str) -> str | None:
    # Left out is what SymPy loses: the base of a logarithm, capitals, the order of a = b = c, what a list has twice.
    if _plain_number(gold) is not None or not _is_formula(gold) or re.search(r"%|\\log|[ABD-Z]|=.*=", gold):
        return None
    from sympy import latex

    expression = parsed(without_units(tidy(_bare(gold))))
    if expression is None or len(getattr(expression, "_unsorted_args", expression.args)) > len(expression.args):
        return None
    printed = latex(expression, ln_notation=True, inv_trig_style="full")
    return f"The answer is ${printed}$."


def _if_number(template: str) -> Rewrite:
    def rewrite(gold: str) -> str | None:
        number = _plain_number(gold)
        return None if number is None else template.replace("GOLD", number)

    return rewrite


DISGUISES: dict[str, Rewrite] = {
    "itself": lambda gold: gold,
    "in a sentence": lambda gold: f"The answer is {_inline(gold)}.",
    "after Answer:": lambda gold: f"First, 12 times 5 is 60.\n\n**Answer:** {_inline(gold)}",
    "after ####": lambda gold: f"12 * 5 = 60\n#### {_inline(gold)}".replace("\n", " ").replace(" ####", "\n####"),
    "boxed": lambda gold: rf"Since $12 \cdot 5 = 60$, we get $\boxed{{{_formula(gold)}}}$, as wanted.",
    "boxed, then said": lambda gold: rf"\[ \boxed{{{_formula(gold)}}} \] I checked it 2 times.",
    "last formula": lambda gold: f"From 12 we are left with ${_bare(gold)}$ at the end." if _is_formula(gold) else None,
    "1,234": lambda gold: (grouped := _grouped(gold, ",")) and f"The answer is {grouped}.",
    "$1{,}234$": lambda gold: (grouped := _grouped(gold, "{,}")) and f"The answer is ${grouped}$.",
    r"1\,234 boxed": lambda gold: (grouped := _grouped(gold, r"\,")) and rf"$\boxed{{{grouped}}}$",
    r"\frac as a decimal": _decimal,
    r"decimal as a \frac": lambda gold: (fraction := _fraction(gold)) and f"The answer is ${fraction}$.",
    r"\frac as a/b": _slash,
    r"\frac12": _short_fraction,
    r"\dfrac": lambda gold: _inline(gold.replace(r"\frac", r"\dfrac")) if r"\frac" in gold else None,
    r"\left( \right)": _wide_parentheses,
    "list in another order": _other_order,
    "as SymPy prints it": _by_sympy,
    "18 dollars": _if_number("The answer is GOLD dollars per day."),
    r"18\text{ cm}": _if_number(r"So it is $\boxed{GOLD\text{ cm}^2}$."),
    "costs $18": _if_number("In the end it costs $GOLD."),
    "18 apples": _if_number("So there are GOLD apples in the basket."),
    "18%": _if_number("The answer is GOLD%."),
    r"18\% boxed": _if_number(r"$\boxed{GOLD\%}$"),
    "18.0": lambda gold: f"{number}.0" if (number := _plain_number(gold)) and "." not in number else None,
    "$x = 18$": _if_number("Therefore $x = GOLD$."),
}
"""Ways to write a gold answer that change nothing: each must grade as correct."""


def _number_changed(gold: str) -> str | None:
    last = list(_NUMBER.finditer(gold))[-1:]
    if not last:
        return None
    start, end = last[0].span()
    old = gold[start:end]
    if "." not in old:
        new = str(int(old) + 1)
    else:  # one more in the last place
        places = len(old.partition(".")[2])
        new = f"{Decimal(old) + Decimal(1).scaleb(-places):.{places}f}"
    return gold[:start] + new + gold[end:]


def _sign_flipped(gold: str) -> str | None:
    for match in _NUMBER.finditer(gold, max(gold.rfind("="), gold.rfind(r"\approx"), 0)):
        if float(match[0]) != 0:
            before = gold[: match.start()]
            sign = before.rstrip()
            return (sign[:-1] if sign.endswith("-") else before + "-") + gold[match.start() :]
    return None


def _term_added(gold: str) -> str:
    return f"{gold[:-1]}+7$" if gold.endswith("$") and not gold.endswith("$$") else f"{gold}+7"


def _answered(change: Rewrite) -> Rewrite:
    return lambda gold: (changed := change(gold)) and f"The answer is {_inline(changed)}."


CHANGES: dict[str, Rewrite] = {
    "last number + 1": _answered(_number_changed),
    "sign flipped": _answered(_sign_flipped),
    "+ 7 added": _answered(_term_added),
}
"""Ways to change a gold answer: each must grade as wrong."""


def source_of(file: Path) -> QuestionSource:
    """Return the source a file's name tells of: `gsm8k_test.jsonl` holds `gsm8k`; any other name a set of its own."""
    found = [name for name in PUBLISHED if re.fullmatch(rf"{name}(?:[_.-].*)?", file.stem)]
    return QuestionSource(name=max(found, key=len, default=re.sub(r"[^\w.+-]", "-", file.stem)), file=file)


def check(questions: Sequence[Question], progress: bool = False) -> list[Outcome]:
    """Grade every disguise and every change of the questions' gold answers with the `math` grader."""
    grade = grader("math")
    outcomes = []
    with progress_bar(progress) as bar:
        task = bar.add_task("grading", total=len(questions))
        for question in questions:
            gold = question.gold
            for wanted, rewrites in ((True, DISGUISES), (False, CHANGES)):
                for name, rewrite in rewrites.items():
                    text = rewrite(gold)
                    if text is not None:
                        given = grade_answer(grade, text, gold)
                        outcomes.append(Outcome(question.id, gold, name, text, given.correct is wanted, given.problem))
            bar.advance(task)
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
    for title, rewrites in (("correct", DISGUISES), ("wrong", CHANGES)):
        for name in rewrites:
            if any(name in column for column in columns.values()):
                rows.append([title, f"`{name}`", *(cell(column.get(name)) for column in columns.values())])
    return tabulate(rows, headers=["must be", "gold answer", *columns], tablefmt="github", disable_numparse=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rates and failures of each file named; 0 when every file could be read."""
    parser = argparse.ArgumentParser(prog="python -m rlcircuits.questions.check", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines of a published set")
    parser.add_argument("--count", type=int, help="questions drawn from each file; all of them by default")
    options = parser.parse_args(arguments)
    by_set = {}
    try:
        for file in options.files:
            source = source_of(file)
            questions = load_questions(source, count=options.count).questions
            by_set[f"{source.name} ({len(questions):,})"] = check(questions, progress=True)
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
