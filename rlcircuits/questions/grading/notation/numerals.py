r"""Read numbers as people write them: `1,234.5`, `1 234 567`, `2 2/3`, `1.5\times 10^{3}`, `3e5`."""

from __future__ import annotations

import math
import re
from fractions import Fraction

__all__ = ["join_thousands", "number", "ratio_terms", "same_number", "spell_powers_of_ten"]

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_SIGNED_DECIMAL = re.compile(rf"[-+]?\s*{_DECIMAL}", re.ASCII)
_RATIO = re.compile(rf"{_DECIMAL}(?:\s*:\s*{_DECIMAL})+", re.ASCII)
_SIGNIFICANT_DIGITS = 6
_LARGEST_EXPONENT = 400
"""Largest exponent of ten that is multiplied out. Larger ones are left to SymPy, which keeps them as powers."""

_DIGITS_AND_COMMAS = re.compile(r"(?<![\d.,])\d+(?:,\d+)+", re.ASCII)
_DIGITS_AND_SPACES = re.compile(r"(?<![\d.,])(?<![\d.,] )\d{1,3}(?: \d{3})+(?![\d/]|\.\d| \d)", re.ASCII)

_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+", re.ASCII)
_GROUPED_FOR_SURE = re.compile(r"(?<!\d)[1-9]\d{0,2}(?:,0\d\d(?!\d))+", re.ASCII)

_E_NOTATION = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?|\.\d+)[eE]([-+]?\d{1,4})(?![\w.]*\w)", re.ASCII)
_X_FOR_TIMES = re.compile(r"(?<=\d)\s?[xX*]\s?(?=10\s?\^)", re.ASCII)
_BARE_EXPONENT = re.compile(r"\^\s?([-+]?\d+)", re.ASCII)

_FRACTION = (
    rf"\\frac\s*(?:\{{\s*(?P<a>[-+]?{_DECIMAL})\s*\}}|(?P<a1>\d))\s*(?:\{{\s*(?P<b>{_DECIMAL})\s*\}}|(?P<b1>\d))"
)
_TIMES = r"\s*(?:\\times|\\cdot|\*)\s*"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*"
    rf"(?:(?:(?P<whole>\d+)\s*)?{_FRACTION}"
    rf"|(?P<whole2>\d+)\s+(?P<c2>\d+)\s*/\s*(?P<d2>\d+)"
    rf"|(?P<c>{_DECIMAL})\s*(?:[/:]\s*(?P<d>{_DECIMAL}))?)"
    rf"(?:{_TIMES}10\s*\^\s*\{{?\s*(?P<power>[-+]?\d+)\s*\}}?)?",
    re.ASCII,
)
_POWER_OF_TEN = re.compile(r"(?P<sign>[-+]?)\s*10\s*\^\s*\{?\s*(?P<power>[-+]?\d+)\s*\}?", re.ASCII)


def number(text: str) -> Fraction | None:
    """Return the exact value of a number without thousands separators; None for other text and for huge numbers."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        match = _POWER_OF_TEN.fullmatch(text)
        return None if match is None else _signed(match["sign"], _scaled(Fraction(1), match["power"]))
    above = match["a"] or match["a1"] or match["c2"] or match["c"]
    below = match["b"] or match["b1"] or match["d2"] or match["d"] or "1"
    try:
        value = int(match["whole"] or match["whole2"] or 0) + Fraction(above) / Fraction(below)
    except (ValueError, ZeroDivisionError):  # more digits than Python converts, or a zero denominator
        return None
    return _signed(match["sign"], _scaled(value, match["power"] or "0"))


def same_number(answer: str, reference: str) -> bool:
    """Compare two numbers exactly; but a decimal agrees with a fraction if six significant digits do."""
    theirs, ours = number(answer), number(reference)
    if theirs is None or ours is None or theirs == ours:
        return theirs == ours
    if bool(_SIGNED_DECIMAL.fullmatch(answer)) == bool(_SIGNED_DECIMAL.fullmatch(reference)):
        return False
    size = math.log10(abs(ours.numerator)) - math.log10(ours.denominator) if ours else 0.0
    places = _SIGNIFICANT_DIGITS - math.floor(size)
    shift = Fraction(10) ** max(_SIGNIFICANT_DIGITS, places)
    return math.floor(theirs * shift + Fraction(1, 2)) == math.floor(ours * shift + Fraction(1, 2))


def ratio_terms(text: str) -> tuple[Fraction, ...] | None:
    """Return the terms of a ratio as shares of their sum, 1/2, 1/3 and 1/6 for `3:2:1`; None for other text."""
    if not _RATIO.fullmatch(text):
        return None
    terms = [Fraction(term) for term in text.split(":")]
    whole = sum(terms)
    return tuple(term / whole for term in terms) if whole else None


def _signed(sign: str, value: Fraction | None) -> Fraction | None:
    return -value if sign == "-" and value is not None else value


def _scaled(value: Fraction, power: str) -> Fraction | None:
    if len(power) > 5 or abs(int(power)) > _LARGEST_EXPONENT:
        return None
    return value * Fraction(10) ** int(power)


def spell_powers_of_ten(text: str) -> str:
    r"""Write `3e5`, `1.5 x 10^3` and `10^-4` in LaTeX: `3\times 10^{5}`, `1.5\times 10^{3}`, `10^{-4}`."""
    text = _X_FOR_TIMES.sub(r"\\times ", text)
    text = _E_NOTATION.sub(r"\1\\times 10^{\2}", text)
    return _BARE_EXPONENT.sub(r"^{\1}", text)


def join_thousands(text: str) -> str:
    r"""Remove thousands separators: `1,000\pi` becomes `1000\pi`, and `1 234 567` becomes `1234567`.

    Within brackets a comma separates the members of a list, as in `(1,200)`. There are two exceptions: the list has
    another separator, as in `(1,000, 2,000)`, or the digits after the comma cannot be a number, as in `(1,000)`.
    """
    text = _DIGITS_AND_SPACES.sub(lambda run: run[0].replace(" ", ""), text)
    if not _DIGITS_AND_COMMAS.search(text):
        return text
    plain = _without_plain_commas(text)
    return _DIGITS_AND_COMMAS.sub(lambda run: _joined(run[0], all_of_it=plain[run.start()]), text)


def _joined(run: str, all_of_it: bool) -> str:
    """Join the groups of digits that are one number; in doubt, only groups that begin with 0, like 000 and 050."""
    one = all_of_it and _GROUPED.fullmatch(run)
    return run.replace(",", "") if one else _GROUPED_FOR_SURE.sub(lambda found: found[0].replace(",", ""), run)


def _without_plain_commas(text: str) -> list[bool]:
    """Return, for each character, False if it is in a list whose members are separated by commas without spaces."""
    spaced = [True]
    inside = [0]
    places = []
    for place, character in enumerate(text):
        escaped = text[place - 1 : place] == "\\"
        if character in "([" or (character == "{" and escaped):
            inside.append(len(spaced))
            spaced.append(False)
        elif len(inside) > 1 and (character in ")]" or (character == "}" and escaped)):
            inside.pop()
        elif character == ";" or (character == "," and text[place + 1 : place + 2] == " "):
            spaced[inside[-1]] = True
        places.append(inside[-1])
    return [spaced[place] for place in places]
