r"""Gold answers in disguise, which must grade as correct, and changed, which must grade as wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from rlcircuits.questions.grading.latex import tidy
from rlcircuits.questions.grading.symbolic import parsed
from rlcircuits.questions.grading.units import without_unit

__all__ = ["CHANGES", "DISGUISES", "Rewrite", "bare", "inline", "is_formula", "plain_number"]

Rewrite = Callable[[str], str | None]
"""Writes a gold answer in another way; None where that way does not fit it."""

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_NUMERIC = re.compile(r"-?(?:[1-9]\d{0,2}(?:,\d{3})+|\d*\.?\d+)")
_FRACTION = re.compile(r"(-?)\\d?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")


def bare(gold: str) -> str:
    """Return a gold answer without the dollar signs around it, if it is one formula or number."""
    gold = gold.strip().rstrip(".")
    inner = gold[1:-1] if len(gold) > 1 and gold[0] == gold[-1] == "$" and gold.count("$") == 2 else gold
    return inner.strip()


def plain_number(gold: str) -> str | None:
    """Return a gold answer that is one number, without separators; None for any other."""
    number = bare(gold)
    return number.replace(",", "") if _NUMERIC.fullmatch(number) else None


def inline(gold: str) -> str:
    """Write a gold answer as it stands in a sentence: LaTeX between dollar signs."""
    return f"${gold}$" if "\\" in gold and "$" not in gold else gold


def _formula(gold: str) -> str:
    r"""Write a gold answer as one formula, words in \text{}."""
    pieces = re.split(r"(?<!\\)\$+", gold)
    if len(pieces) == 1 or "\\" in pieces[0]:
        return gold if "\\" in gold or re.search(r"\d", gold) or len(gold) < 2 else rf"\text{{{gold}}}"
    return "".join(
        piece
        if place % 2
        else re.sub(
            r"(?:[^\s,;.]|(?<=\d),(?=\d))+(?:\s+(?:[^\s,;.]|(?<=\d),(?=\d))+)*",
            lambda words: rf"\text{{ {words[0]} }}",
            piece,
        )
        for place, piece in enumerate(pieces)
    )


def is_formula(gold: str) -> bool:
    """Return True for a gold answer that is one formula, without words."""
    return "$" not in bare(gold) and not re.search(r"(?<![\\A-Za-z])[A-Za-z]{2,}|\\(?:text|mbox)|\n", bare(gold))


def _grouped(gold: str, comma: str) -> str | None:
    number = plain_number(gold)
    if number is None or not _INTEGER.fullmatch(number) or abs(int(number)) < 1000:
        return None
    return f"{int(number):,}".replace(",", comma)


def _decimal(gold: str) -> str | None:
    match = _FRACTION.fullmatch(bare(gold))
    if not match:
        return None
    value = Fraction(int(match[2] or match[3]), int(match[4] or match[5]))
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{match[1]}{decimal}" if Fraction(decimal) == value else None


def _fraction(gold: str) -> str | None:
    number = plain_number(gold)
    if number is None or "." not in number:
        return None
    value = Fraction(number)
    return rf"{'-' if value < 0 else ''}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _slash(gold: str) -> str | None:
    match = _FRACTION.fullmatch(bare(gold))
    return match and f"{match[1]}{match[2] or match[3]}/{match[4] or match[5]}"


def _short_fraction(gold: str) -> str | None:
    short = re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", gold)
    return inline(short) if short != gold else None


def _wide_parentheses(gold: str) -> str | None:
    formula = bare(gold)
    if not is_formula(gold) or "(" not in formula or re.search(r"\\left|\\right|\\[()]|[\[\]]", formula):
        return None
    return "$" + formula.replace("(", r"\left( ").replace(")", r" \right)") + "$"


def _other_order(gold: str) -> str | None:
    parts = bare(gold).split(",")
    alone = all(re.fullmatch(r"\s*-?(?:\d+|\\frac\{\d+\}\{\d+\})\s*", part) for part in parts)
    if len(parts) < 2 or not alone or re.fullmatch(r"-?\d{1,3}(,\d{3})+", bare(gold)):  # one number, not a list
        return None
    return " and ".join(f"${part.strip()}$" for part in reversed(parts))


def _by_sympy(gold: str) -> str | None:
    # Left out is what SymPy loses: the base of a logarithm, capitals, degrees Celsius, the order of a = b = c, what
    # a list has twice.
    lost = re.search(r"%|\\log|[ABD-Z]|=.*=|\\circ.*C", gold)
    if plain_number(gold) is not None or not is_formula(gold) or lost:
        return None
    from sympy import latex

    expression = parsed(without_unit(tidy(bare(gold)))[0])
    if expression is None or len(getattr(expression, "_unsorted_args", expression.args)) > len(expression.args):
        return None
    printed = latex(expression, ln_notation=True, inv_trig_style="full")
    return f"The answer is ${printed}$."


def _if_number(template: str) -> Rewrite:
    def rewrite(gold: str) -> str | None:
        number = plain_number(gold)
        return None if number is None else template.replace("GOLD", number)

    return rewrite


DISGUISES: dict[str, Rewrite] = {
    "itself": lambda gold: gold,
    "in a sentence": lambda gold: f"The answer is {inline(gold)}.",
    "after Answer:": lambda gold: f"First, 12 times 5 is 60.\n\n**Answer:** {inline(gold)}",
    "after ####": lambda gold: f"12 * 5 = 60\n#### {inline(gold)}".replace("\n", " ").replace(" ####", "\n####"),
    "boxed": lambda gold: rf"Since $12 \cdot 5 = 60$, we get $\boxed{{{_formula(gold)}}}$, as wanted.",
    "boxed, then said": lambda gold: rf"\[ \boxed{{{_formula(gold)}}} \] I checked it 2 times.",
    "last formula": lambda gold: f"From 12 we are left with ${bare(gold)}$ at the end." if is_formula(gold) else None,
    "1,234": lambda gold: (grouped := _grouped(gold, ",")) and f"The answer is {grouped}.",
    "$1{,}234$": lambda gold: (grouped := _grouped(gold, "{,}")) and f"The answer is ${grouped}$.",
    r"1\,234 boxed": lambda gold: (grouped := _grouped(gold, r"\,")) and rf"$\boxed{{{grouped}}}$",
    r"\frac as a decimal": _decimal,
    r"decimal as a \frac": lambda gold: (fraction := _fraction(gold)) and f"The answer is ${fraction}$.",
    r"\frac as a/b": _slash,
    r"\frac12": _short_fraction,
    r"\dfrac": lambda gold: inline(gold.replace(r"\frac", r"\dfrac")) if r"\frac" in gold else None,
    r"\left( \right)": _wide_parentheses,
    "list in another order": _other_order,
    "as SymPy prints it": _by_sympy,
    "18 dollars": _if_number("The answer is GOLD dollars per day."),
    r"18\text{ cm}": _if_number(r"So it is $\boxed{GOLD\text{ cm}^2}$."),
    "costs $18": _if_number("In the end it costs $GOLD."),
    "18 apples": _if_number("So there are GOLD apples in the basket."),
    "18%": _if_number("The answer is GOLD%."),
    r"18\% boxed": _if_number(r"$\boxed{GOLD\%}$"),
    "18.0": lambda gold: f"{number}.0" if (number := plain_number(gold)) and "." not in number else None,
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
    return lambda gold: (changed := change(gold)) and f"The answer is {inline(changed)}."


CHANGES: dict[str, Rewrite] = {
    "last number + 1": _answered(_number_changed),
    "sign flipped": _answered(_sign_flipped),
    "+ 7 added": _answered(_term_added),
}
"""Ways to change a gold answer: each must grade as wrong."""
