"""Convert units of measure, and scale words such as "dozen"."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["SCALES", "conversion_factor", "split_unit", "unit_exponent"]

SCALES = {
    "hundred": Fraction(100),
    "thousand": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
    "bn": Fraction(10**9),
    "mn": Fraction(10**6),
    "lakh": Fraction(10**5),
    "crore": Fraction(10**7),
    "dozen": Fraction(12),
    "tenth": Fraction(1, 10),
    "hundredth": Fraction(1, 100),
    "thousandth": Fraction(1, 1000),
}
"""Factors of scale words. A scale word, or its plural, multiplies the number before it."""

_KINDS: tuple[dict[str, int | Fraction], ...] = (
    {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800},
    {"month": 1, "year": 12, "decade": 120, "century": 1200},
    {"inch": 1, "foot": 12, "yard": 36, "mile": 63_360},
    {"millimeter": 1, "centimeter": 10, "meter": 1000, "kilometer": 10**6},
    {"ounce": 1, "pound": 16, "ton": 32_000},
    {"milligram": 1, "gram": 1000, "kilogram": 10**6},
    {"teaspoon": Fraction(1, 6), "tablespoon": Fraction(1, 2), "cup": 8, "pint": 16, "quart": 32, "gallon": 128},
    {"milliliter": 1, "liter": 1000},
    {"cent": 1, "dollar": 100},
    {"cent": 1, "euro": 100},
    {"penny": 1, "pound": 100},
    {"paisa": 1, "rupee": 100},
    {"second": 1, "minute": 60, "degree": 3600},
)
"""Kinds of units that people mix in one answer. Sizes within a kind are relative to one another."""

_OTHER_NAMES = {
    "s": ("second",),
    "m": ("minute", "meter"),
    "min": ("minute",),
    "sec": ("second",),
    "h": ("hour",),
    "hr": ("hour",),
    "d": ("day",),
    "wk": ("week",),
    "mo": ("month",),
    "yr": ("year",),
    "centurie": ("century",),
    "in": ("inch",),
    "inche": ("inch",),
    "ft": ("foot",),
    "feet": ("foot",),
    "yd": ("yard",),
    "mi": ("mile",),
    "mm": ("millimeter",),
    "cm": ("centimeter",),
    "km": ("kilometer",),
    "oz": ("ounce",),
    "lb": ("pound",),
    "mg": ("milligram",),
    "g": ("gram",),
    "kg": ("kilogram",),
    "tsp": ("teaspoon",),
    "tbsp": ("tablespoon",),
    "pt": ("pint",),
    "qt": ("quart",),
    "gal": ("gallon",),
    "ml": ("milliliter",),
    "l": ("liter",),
    "$": ("dollar",),
    "€": ("euro",),
    "£": ("pound",),
    "₹": ("rupee",),
    "¢": ("cent",),
    "p": ("penny",),
    "pence": ("penny",),
    "pennie": ("penny",),
    "paise": ("paisa",),
    "deg": ("degree",),
}
_ABBREVIATIONS = "in|ft|yd|mi|mm|cm|km|kg|mg|lb|lbs|oz|hr|hrs|min|sec|ml|mL|m|g|s|h|L|km/h|m/s|mph|kph"
_LONGEST_UNIT = 80
_UNIT_AT_THE_END = re.compile(
    r"(?<=[\d)}%])(?:\s*[/·-]?\s*\\(?:mathrm|operatorname)\s*\{(?![eid]\})[^{}\\]*\}(?:\^\{?-?\d\}?)?)+\s*$"
    rf"|(?:(?<=[\d)}}%])|(?<=[^A-Za-z\\][A-Za-z])|(?<=\\pi))\s+(?:{_ABBREVIATIONS})(?:\^\{{?\d\}}?)?$"
    r"|(?<=\d)(?:mm|cm|km|kg|mg|ml|mL|hr|hrs|min|sec|lbs?|oz|ft|km/h|mph)(?:\^\{?\d\}?)?$"
    r"|(?<=\d)\s*[\u0400-\u04ff\u3040-\u9fff]+$"  # 18元, and the step tag of Math-Shepherd
)
_POWER = re.compile(r"\^\{?(-?\d)\}?$")
_POWERS_IN_WORDS = {"square": "2", "squared": "2", "sq": "2", "cubic": "3", "cubed": "3", "cu": "3"}
_MAKES_ANOTHER = frozenset(("per", "a", "an", "squared", "cubed"))
"""Words that turn the unit before them into another unit, `miles per hour`. Other words do not, as in `feet tall`."""


def conversion_factor(one: str, other: str) -> Fraction | None:
    """Return how many of `other` are one of `one`: 60 for hours in minutes. None if the units do not convert."""
    names, other_names = _names(one), _names(other)
    for kind in _KINDS:
        found = next((kind[name] for name in names if name in kind), None)
        other_found = next((kind[name] for name in other_names if name in kind), None)
        if found is not None and other_found is not None:
            return Fraction(found) / Fraction(other_found)
    return None


def _names(phrase: str) -> tuple[str, ...]:
    """Return the units that a phrase may mean: `m` is a meter or a minute."""
    words = phrase.lower().split()
    if not words or (words[1:2] and words[1] in _MAKES_ANOTHER):
        return ()
    word = words[0].replace("metre", "meter").replace("litre", "liter")
    singular = word.removesuffix("s") if len(word) > 1 else word
    return _OTHER_NAMES.get(word) or _OTHER_NAMES.get(singular) or (singular,)


def split_unit(formula: str) -> tuple[str, str]:
    r"""Split the unit from the end of a tidy formula: `5\mathrm{ cm}^2` becomes `5` and `cm^2`.

    The unit is "" if the formula has none. In a list, every member loses its unit, and the last unit is returned.
    """
    parts = re.split(r"([,;])", formula)
    unit = ""
    for place in range(0, len(parts), 2):
        kept, tail = parts[place][:-_LONGEST_UNIT], parts[place][-_LONGEST_UNIT:]
        found = _UNIT_AT_THE_END.search(tail)
        unit = found[0] if found else ""
        parts[place] = kept + (tail[: found.start()] if found else tail)
    return "".join(parts).rstrip(" .,;:"), re.sub(r"\\[a-z]+|[{}]", "", unit).strip()


def unit_exponent(unit: str) -> str | None:
    """Return the exponent of a unit, "2" for `cm^2` and `square feet`; None for a unit without one."""
    if shown := _POWER.search(unit):
        return shown[1]
    return next((_POWERS_IN_WORDS[word] for word in unit.split() if word in _POWERS_IN_WORDS), None)
