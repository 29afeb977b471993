r"""Rewrites of a reference answer that is a number, set or point, in the notations that people and models use.

The notations in `NOTATIONS` must grade as correct, the other answers in `OTHER_NUMBERS` as wrong. Each rewrite is put
into one of `_CONTEXTS`: a sentence, after "the answer is", after `####` or alone. A hash of the reference answer
selects the context.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from rlcircuits.questions.audit.disguises import Rewrite, bare, inline, is_formula, plain_number
from rlcircuits.questions.grading.comparing.real_sets import read_set
from rlcircuits.questions.grading.notation.brackets import split_at, within_brackets
from rlcircuits.questions.grading.notation.latex import tidy
from rlcircuits.questions.grading.notation.numerals import number

__all__ = ["NOTATIONS", "OTHER_NUMBERS"]

_CONTEXTS = (
    "The answer is {}.",
    "First, 12 * 5 = 60.\nSo it is {}.",
    "12 * 5 = 60\n#### {}",
    "{}",
    "**Final Answer:** {}",
    "Since 7919 is prime, we find that there are {}.",
)
_VULGAR = {
    Fraction(above, below): sign
    for sign, above, below in (
        *(("½", 1, 2), ("¾", 3, 4), ("¼", 1, 4), ("⅓", 1, 3), ("⅔", 2, 3), ("⅕", 1, 5), ("⅖", 2, 5), ("⅗", 3, 5)),
        *(("⅘", 4, 5), ("⅙", 1, 6), ("⅚", 5, 6), ("⅛", 1, 8), ("⅜", 3, 8), ("⅝", 5, 8), ("⅞", 7, 8), ("⅒", 1, 10)),
    )
}
_PRICES = ("¥{}", "₹{}", "Rs. {}", "US${}", "€{}", "£{}", "{}¢", "{} USD", "{} yen")
_UNITS = (("hours", "minutes", 60), ("feet", "inches", 12), ("pounds", "ounces", 16), ("weeks", "days", 7))
_SCALES = (("million", 10**6), ("thousand", 1000), ("hundred", 100), ("dozen", 12))
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{4,}(?![\d.,])")
_COMMA = re.compile(",")


def _turn(reference: str, count: int) -> int:
    return zlib.crc32(reference.encode()) % count


def _in_context(write: Callable[[str], str | None]) -> Rewrite:
    def rewrite(reference: str) -> str | None:
        written = write(reference)
        return None if written is None else _CONTEXTS[_turn(reference, len(_CONTEXTS))].format(written)

    return rewrite


def _of_value(write: Callable[[Fraction], str | None]) -> Rewrite:
    """Make a rewrite of the exact value of a reference answer that is a number or fraction."""

    def rewrite(reference: str) -> str | None:
        value = number(tidy(bare(plain_number(reference) or reference)))
        return None if value is None else write(value)

    return _in_context(rewrite)


def _of_number(write: Callable[[str], str | None]) -> Rewrite:
    """Make a rewrite of a reference answer that is one number, given its digits."""

    def rewrite(reference: str) -> str | None:
        digits = plain_number(reference)
        return None if digits is None else write(digits)

    return _in_context(rewrite)


def _of_positive(write: Callable[[str], str | None]) -> Rewrite:
    return _of_number(lambda digits: write(digits) if Decimal(digits) > 0 else None)


def _of_whole(write: Callable[[int], str | None]) -> Rewrite:
    return _of_number(lambda digits: write(int(digits)) if digits.isdigit() else None)


def _next(digits: str) -> str:
    """Return the digits of a number that is larger by one."""
    return str(Decimal(digits) + 1)


def _mixed(value: Fraction, more: int = 0) -> str | None:
    whole, rest = divmod(abs(value), 1)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole + more} {rest.numerator}/{rest.denominator} cups" if whole and rest else None


def _vulgar(value: Fraction, more: int = 0) -> str | None:
    whole, rest = divmod(abs(value), 1)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole + more or ''}{_VULGAR[rest]}" if rest in _VULGAR else None


def _scaled(digits: str) -> str | None:
    value = Fraction(digits)
    for name, size in _SCALES:
        if value >= size and 1000 % (value / size).denominator == 0:
            return f"{Decimal(digits) / size} {name}"
    return None


def _mixed_units(value: int) -> str | None:
    large, small, size = _UNITS[value % len(_UNITS)]
    return f"{value // size} {large} and {value % size} {small}" if value > size and value % size else None


def _scientific(digits: str, more: int, form: str) -> str | None:
    mantissa, exponent = f"{Decimal(digits):e}".split("e")
    power = str(int(exponent) + more)
    return form.format(mantissa, power, power.translate(_RAISED))


def _with_commas(reference: str, more: int = 0) -> str | None:
    formula = bare(reference)
    if (
        plain_number(reference) is not None
        or not is_formula(reference)
        or "=" in formula
        or not _THOUSANDS.search(formula)
    ):
        return None
    return f"${_THOUSANDS.sub(lambda digits: f'{int(digits[0]) + more:,}', formula)}$"


def _point(reference: str) -> list[str] | None:
    inside = within_brackets(tidy(bare(reference)))
    members = [] if inside is None else [member.strip() for member in split_at(_COMMA, inside)]
    return members if len(members) > 1 and all(number(member) is not None for member in members) else None


def _as_point(reference: str) -> str | None:
    members = _point(reference)
    return None if members is None else f"$\\left({' , '.join(members)}\\right)$"


def _as_set(reference: str) -> str | None:
    members = _point(reference)
    return None if members is None else rf"$\{{{', '.join(members)}\}}$"


def _turned_round(reference: str) -> str | None:
    members = _point(reference) or []
    turned = members[::-1]
    same = all(number(one) == number(other) for one, other in zip(members, turned, strict=True))
    return None if same else f"$({', '.join(turned)})$"


def _set_in_other_words(reference: str, ends_changed: bool = False) -> str | None:
    """Write inequalities as intervals, and intervals as inequalities."""
    found = read_set(tidy(bare(reference)))
    if found is None or not is_formula(reference):
        return None
    from sympy import Float, Interval, Union, latex, oo

    parts = found.members.args if isinstance(found.members, Union) else (found.members,)
    if not all(isinstance(part, Interval) for part in parts) or parts == (Interval(-oo, oo),):
        return None
    if found.members.has(Float):  # SymPy keeps fewer digits
        return None
    written = []
    for part in parts:
        start, end = (latex(bound, ln_notation=True, inv_trig_style="full") for bound in (part.start, part.end))
        left_open, right_open = (bool(is_open) != ends_changed for is_open in (part.left_open, part.right_open))
        if found.variable:
            left = "(" if left_open or part.start == -oo else "["
            right = ")" if right_open or part.end == oo else "]"
            written.append(f"{left}{start}, {end}{right}")
        else:
            below = "" if part.start == -oo else f"{start} {'<' if left_open else chr(92) + 'leq'} "
            above = "" if part.end == oo else f" {'<' if right_open else chr(92) + 'leq'} {end}"
            written.append(f"{below}x{above}")
    return "$" + (r" \cup " if found.variable else r" \text{ or } ").join(written) + "$"


def _ratio(value: Fraction, turned: bool = False) -> str | None:
    terms = (value.numerator, value.denominator)
    if value.denominator == 1 or value <= 0:
        return None
    return "{}:{}".format(*(terms[::-1] if turned else terms))


def _formula_after(template: str) -> Rewrite:
    """Make a rewrite that puts a reference formula in the place of `{}` in a template."""
    return _in_context(
        lambda reference: template.format(inline(f"${bare(reference)}$")) if is_formula(reference) else None
    )


def _fixed(write: Callable[..., str | None], **fixed: Any) -> Callable[[Any], str | None]:
    return lambda value: write(value, **fixed)


NOTATIONS: dict[str, Rewrite] = {
    "2 2/3 cups": _of_value(_mixed),
    "2⅔": _of_value(_vulgar),
    "1.8 thousand, 1.5 dozen": _of_positive(_scaled),
    "-$18": _of_number(lambda digits: f"-${digits[1:]}" if digits[0] == "-" else None),
    "minus 18": _of_number(lambda digits: f"minus {digits[1:]}" if digits[0] == "-" else None),
    "$18/hour": _of_positive(lambda digits: f"${digits}/hour"),
    "18/hr": _of_positive(lambda digits: f"{digits}/hr"),
    "2 hours and 15 minutes": _of_whole(_mixed_units),
    "18, not 19": _of_number(lambda digits: f"{digits}, not {_next(digits)}"),
    "sets in the other notation": _in_context(_set_in_other_words),
    r"1,000\pi": _in_context(_with_commas),
    "1 234 567": _of_whole(lambda value: f"{value:,}".replace(",", " ") if value >= 1000 else None),
    "1.8e1": _of_number(_fixed(_scientific, more=0, form="{}e{}")),
    "1.8 x 10^1": _of_number(_fixed(_scientific, more=0, form="{} x 10^{}")),
    "1.8×10¹": _of_number(_fixed(_scientific, more=0, form="{0}×10{2}")),
    "18 °C": _of_number("{} °C".format),
    r"18\sin 90^\circ": _of_positive(lambda digits: rf"${digits}\sin 90^\circ$"),
    "point with spaces": _in_context(_as_point),
    "¥18, ₹18, Rs. 18, 18¢": _of_positive(lambda digits: _PRICES[_turn(digits, len(_PRICES))].format(digits)),
    "18 percent": _of_number("{} percent".format),
    "3:2": _of_value(_ratio),
    "several lines": _of_number(lambda digits: rf"$\begin{{aligned}}x&=12+5\\&={digits}\end{{aligned}}$"),
    "18=x": _of_number("${}=x$".format),
    "__18__": _of_number("__{}__".format),
    "**18**": lambda reference: (
        f"Therefore, after 3 steps, we get **{inline(reference)}**." if plain_number(reference) else None
    ),
}
"""Notations of the reference answer, each named by an example for 18 or a similar number."""

OTHER_NUMBERS: dict[str, Rewrite] = {
    "2 2/3 cups + 1": _of_value(_fixed(_mixed, more=1)),
    "18 1/2 cups": _of_whole(lambda value: f"{value} 1/2 cups"),
    "1 8/9 cups for 8/9": _of_value(lambda value: _mixed(value + 1) if 0 < value < 1 else None),
    "2⅔ + 1": _of_value(_fixed(_vulgar, more=1)),
    "18½": _of_whole("{}½".format),
    "18 million": _of_number(lambda digits: f"{digits} million" if Decimal(digits) else None),
    "18 dozen": _of_number(lambda digits: f"{digits} dozen" if Decimal(digits) else None),
    "-$18 for 18": _of_positive("-${}".format),
    "minus 18 for 18": _of_positive("minus {}".format),
    "negative $18 for 18": _of_positive("negative ${}".format),
    "$18/hour + 1": _of_positive(lambda digits: f"${_next(digits)}/hour"),
    "$18.25/mile": _of_whole("${}.25/mile".format),
    "18 hours and 15 minutes": _of_whole("{} hours and 15 minutes".format),
    "2 hours and 18 minutes": _of_whole("2 hours and {} minutes".format),
    "3 feet 18 inches": _of_whole("3 feet {} inches".format),
    "either 18 or 19": _of_number(lambda digits: f"either {digits} or {_next(digits)}"),
    "17 or 18": _of_number(lambda digits: f"{Decimal(digits) - 1} or {digits}"),
    "between 17 and 18": _of_number(lambda digits: f"between {Decimal(digits) - 1} and {digits}"),
    "18 to 19": _of_number(lambda digits: f"{digits} to {_next(digits)}"),
    "more than 18": _of_number("more than {}".format),
    "at least 18": _of_number("at least {}".format),
    "not 18": _of_number("not {}".format),
    "19, not 18": _of_number(lambda digits: f"{_next(digits)}, not {digits}"),
    "could be 16, 17, 18": _of_number(
        lambda digits: f"it could be {Decimal(digits) - 2}, {Decimal(digits) - 1}, {digits}"
    ),
    "not the formula": _formula_after("not {}"),
    "the formula or 7319": _formula_after("either {} or 7319"),
    "sets with other ends": _in_context(_fixed(_set_in_other_words, ends_changed=True)),
    r"1,000\pi + 1": _in_context(_fixed(_with_commas, more=1)),
    "1 234 567 + 1": _of_whole(lambda value: f"{value + 1:,}".replace(",", " ") if value >= 1000 else None),
    "18 000": _of_whole(lambda value: f"{value} 000" if 0 < value < 1000 else None),
    "1.8e2": _of_number(lambda digits: _scientific(digits, 1, "{}e{}") if Decimal(digits) else None),
    "1.8 x 10^2": _of_number(lambda digits: _scientific(digits, 1, "{} x 10^{}") if Decimal(digits) else None),
    "1.8×10²": _of_number(lambda digits: _scientific(digits, 1, "{0}×10{2}") if Decimal(digits) else None),
    "19 °C": _of_number(lambda digits: f"{_next(digits)} °C"),
    r"18\sin 30^\circ": _of_positive(lambda digits: rf"${digits}\sin 30^\circ$"),
    "set for a point": _in_context(_as_set),
    "point turned round": _in_context(_turned_round),
    "¥19, ₹19, Rs. 19, 19¢": _of_positive(lambda digits: _PRICES[_turn(digits, len(_PRICES))].format(_next(digits))),
    "19 percent": _of_number(lambda digits: f"{_next(digits)} percent"),
    "2:3": _of_value(_fixed(_ratio, turned=True)),
    "23:18": _of_whole("23:{}".format),
    "several lines + 1": _of_number(lambda digits: rf"$\begin{{aligned}}x&=12+5\\&={_next(digits)}\end{{aligned}}$"),
    "19=x": _of_number(lambda digits: f"${_next(digits)}=x$"),
    "__19__": _of_number(lambda digits: f"__{_next(digits)}__"),
}
"""Answers close to the reference answer but different from it, each named by an example for 18."""
