r"""Rewrites of a reference answer of any kind: disguises, which are correct, and changes, which are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from rlcircuits.questions.grading.comparing.symbolic import parse_latex
from rlcircuits.questions.grading.notation.latex import tidy
from rlcircuits.questions.grading.notation.units import split_unit

__all__ = ["CHANGES", "DISGUISES", "Rewrite", "bare", "inline", "is_formula", "plain_number"]

Rewrite = Callable[[str], str | None]
"""Writes a reference answer in another way. Returns None if that way does not apply to the answer."""

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_NUMERIC = re.compile(r"-?(?:[1-9]\d{0,2}(?:,\d{3})+|\d*\.?\d+)")
_FRACTION = re.compile(r"(-?)\\d?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")


def bare(reference: str) -> str:
    """Return a reference answer without the dollar signs around it, if it is one formula or number."""
    reference = reference.strip().rstrip(".")
    inner = (
        reference[1:-1]
        if len(reference) > 1 and reference[0] == reference[-1] == "$" and reference.count("$") == 2
        else reference
    )
    return inner.strip()


def plain_number(reference: str) -> str | None:
    """Return a reference answer that is one number, without thousands separators; None for any other."""
    number = bare(reference)
    return number.replace(",", "") if _NUMERIC.fullmatch(number) else None


def inline(reference: str) -> str:
    """Write a reference answer as it appears in a sentence: LaTeX between dollar signs."""
    return f"${reference}$" if "\\" in reference and "$" not in reference else reference


def _formula(reference: str) -> str:
    r"""Write a reference answer as one formula, with its words in \text{}."""
    pieces = re.split(r"(?<!\\)\$+", reference)
    if len(pieces) == 1 or "\\" in pieces[0]:
        return (
            reference
            if "\\" in reference or re.search(r"\d", reference) or len(reference) < 2
            else rf"\text{{{reference}}}"
        )
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


def is_formula(reference: str) -> bool:
    """Return True for a reference answer that is one formula, without words."""
    return "$" not in bare(reference) and not re.search(
        r"(?<![\\A-Za-z])[A-Za-z]{2,}|\\(?:text|mbox)|\n", bare(reference)
    )


def _grouped(reference: str, comma: str) -> str | None:
    number = plain_number(reference)
    if number is None or not _INTEGER.fullmatch(number) or abs(int(number)) < 1000:
        return None
    return f"{int(number):,}".replace(",", comma)


def _decimal(reference: str) -> str | None:
    match = _FRACTION.fullmatch(bare(reference))
    if not match:
        return None
    value = Fraction(int(match[2] or match[3]), int(match[4] or match[5]))
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{match[1]}{decimal}" if Fraction(decimal) == value else None


def _fraction(reference: str) -> str | None:
    number = plain_number(reference)
    if number is None or "." not in number:
        return None
    value = Fraction(number)
    return rf"{'-' if value < 0 else ''}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _slash(reference: str) -> str | None:
    match = _FRACTION.fullmatch(bare(reference))
    return match and f"{match[1]}{match[2] or match[3]}/{match[4] or match[5]}"


def _short_fraction(reference: str) -> str | None:
    short = re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", reference)
    return inline(short) if short != reference else None


def _wide_parentheses(reference: str) -> str | None:
    formula = bare(reference)
    if not is_formula(reference) or "(" not in formula or re.search(r"\\left|\\right|\\[()]|[\[\]]", formula):
        return None
    return "$" + formula.replace("(", r"\left( ").replace(")", r" \right)") + "$"


def _other_order(reference: str) -> str | None:
    parts = bare(reference).split(",")
    alone = all(re.fullmatch(r"\s*-?(?:\d+|\\frac\{\d+\}\{\d+\})\s*", part) for part in parts)
    if len(parts) < 2 or not alone or re.fullmatch(r"-?\d{1,3}(,\d{3})+", bare(reference)):  # one number, not a list
        return None
    return " and ".join(f"${part.strip()}$" for part in reversed(parts))


def _by_sympy(reference: str) -> str | None:
    # Skip what SymPy does not preserve: the base of a logarithm, capital letters, degrees Celsius, the order of
    # a = b = c, repeated members of a list.
    lost = re.search(r"%|\\log|[ABD-Z]|=.*=|\\circ.*C", reference)
    if plain_number(reference) is not None or not is_formula(reference) or lost:
        return None
    from sympy import latex

    expression = parse_latex(split_unit(tidy(bare(reference)))[0])
    if expression is None or len(getattr(expression, "_unsorted_args", expression.args)) > len(expression.args):
        return None
    printed = latex(expression, ln_notation=True, inv_trig_style="full")
    return f"The answer is ${printed}$."


def _if_number(template: str) -> Rewrite:
    def rewrite(reference: str) -> str | None:
        number = plain_number(reference)
        return None if number is None else template.replace("GOLD", number)

    return rewrite


DISGUISES: dict[str, Rewrite] = {
    "itself": lambda reference: reference,
    "in a sentence": lambda reference: f"The answer is {inline(reference)}.",
    "after Answer:": lambda reference: f"First, 12 times 5 is 60.\n\n**Answer:** {inline(reference)}",
    "after ####": lambda reference: f"12 * 5 = 60\n#### {inline(reference)}".replace("\n", " ").replace(
        " ####", "\n####"
    ),
    "boxed": lambda reference: rf"Since $12 \cdot 5 = 60$, we get $\boxed{{{_formula(reference)}}}$, as wanted.",
    "boxed, then said": lambda reference: rf"\[ \boxed{{{_formula(reference)}}} \] I checked it 2 times.",
    "last formula": lambda reference: (
        f"From 12 we are left with ${bare(reference)}$ at the end." if is_formula(reference) else None
    ),
    "1,234": lambda reference: (grouped := _grouped(reference, ",")) and f"The answer is {grouped}.",
    "$1{,}234$": lambda reference: (grouped := _grouped(reference, "{,}")) and f"The answer is ${grouped}$.",
    r"1\,234 boxed": lambda reference: (grouped := _grouped(reference, r"\,")) and rf"$\boxed{{{grouped}}}$",
    r"\frac as a decimal": _decimal,
    r"decimal as a \frac": lambda reference: (fraction := _fraction(reference)) and f"The answer is ${fraction}$.",
    r"\frac as a/b": _slash,
    r"\frac12": _short_fraction,
    r"\dfrac": lambda reference: inline(reference.replace(r"\frac", r"\dfrac")) if r"\frac" in reference else None,
    r"\left( \right)": _wide_parentheses,
    "list in another order": _other_order,
    "as SymPy prints it": _by_sympy,
    "18 dollars": _if_number("The answer is GOLD dollars per day."),
    r"18\text{ cm}": _if_number(r"So it is $\boxed{GOLD\text{ cm}^2}$."),
    "costs $18": _if_number("In the end it costs $GOLD."),
    "18 apples": _if_number("So there are GOLD apples in the basket."),
    "18%": _if_number("The answer is GOLD%."),
    r"18\% boxed": _if_number(r"$\boxed{GOLD\%}$"),
    "18.0": lambda reference: f"{number}.0" if (number := plain_number(reference)) and "." not in number else None,
    "$x = 18$": _if_number("Therefore $x = GOLD$."),
}
"""Ways to write a reference answer without changing it, by name. Each must grade as correct."""


def _number_changed(reference: str) -> str | None:
    last = list(_NUMBER.finditer(reference))[-1:]
    if not last:
        return None
    start, end = last[0].span()
    old = reference[start:end]
    if "." not in old:
        new = str(int(old) + 1)
    else:  # add one in the last decimal place
        places = len(old.partition(".")[2])
        new = f"{Decimal(old) + Decimal(1).scaleb(-places):.{places}f}"
    return reference[:start] + new + reference[end:]


def _sign_flipped(reference: str) -> str | None:
    for match in _NUMBER.finditer(reference, max(reference.rfind("="), reference.rfind(r"\approx"), 0)):
        if float(match[0]) != 0:
            before = reference[: match.start()]
            sign = before.rstrip()
            return (sign[:-1] if sign.endswith("-") else before + "-") + reference[match.start() :]
    return None


def _term_added(reference: str) -> str:
    return f"{reference[:-1]}+7$" if reference.endswith("$") and not reference.endswith("$$") else f"{reference}+7"


def _answered(change: Rewrite) -> Rewrite:
    return lambda reference: (changed := change(reference)) and f"The answer is {inline(changed)}."


CHANGES: dict[str, Rewrite] = {
    "last number + 1": _answered(_number_changed),
    "sign flipped": _answered(_sign_flipped),
    "+ 7 added": _answered(_term_added),
}
"""Ways to change a reference answer, by name. Each must grade as wrong."""
