r"""Mathematics as people and models write it, brought to one form of LaTeX.

`tidy` takes away what carries no meaning (dollar signs, `\left`, thin spaces), `same_text` compares two tidy
strings letter by letter, `has_words` tells prose from mathematics, `without_units` takes off "dollars".
"""

from __future__ import annotations

import re

__all__ = ["has_words", "same_text", "tidy", "unit_power", "without_units"]

_CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "°": r"^\circ ",
        "≤": r"\leq ",
        "≥": r"\geq ",
        "≠": r"\neq ",
        "≈": r"\approx ",
        "±": r"\pm ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "²": "^2 ",
        "³": "^3 ",
        "½": r"\frac{1}{2}",
        "\u00a0": " ",
        "€": "",
        "£": "",
        "`": "",
    }
)

_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)\s*\.", " "),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits|hline|quad|qquad|bf|rm)(?![A-Za-z])", " "),
        (r"\\(?:label|tag)\{[^{}]*\}", " "),
        (r"\{,\}", ","),
        (r",\\!\s*", ","),
        (r"(?<=\d)\\[,;:!]\s*(?=\d{3}(?!\d))", ""),  # 1\,000
        (r"\\[,;:!]|(?<!\\)\\ |~", " "),
        (r"\\%", "%"),
        (r"\\\$|\$|(?<!\\)\\[()\[\]]", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:ge|geqslant)(?![A-Za-z])", r"\\geq"),
        (r"\\(?:le|leqslant)(?![A-Za-z])", r"\\leq"),
        (r"\\ne(?![A-Za-z])", r"\\neq"),
        (r"(?<=\d)i(?![A-Za-z])", " i"),  # math-verify takes the i of 2i for a variable
        (r"\s+", " "),
    )
)

_TEXT = r"\\(?:text|textbf|textit|textrm|textnormal|mbox)\s*\{([^{}]*)\}"
_NAMED = r"\\(?:mathbf|mathrm|operatorname)\s*\{([^{}]*)\}"  # names variables and functions as often as units

_COMMANDS = re.compile(r"\\(?:begin|end)\s*\{[a-z]+\*?\}(?:\{[^{}]*\})?|\\math[a-z]+\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_NO_PROSE = frozenset(
    ("and", "or", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "exp", "sqrt")
)
_SHORT_WORDS = frozenset(
    ("no", "is", "at", "of", "to", "if", "it", "we", "in", "by", "on", "as", "so", "be", "an", "do")
)

_SHORT_UNITS = "in|ft|yd|mi|mm|cm|km|kg|mg|lb|oz|hr|ml|m|g|s|h|L|km/h|m/s"
_NO_UNIT = r"(?!(?:and|or|are|not|never|has|have|does|was|when|where)\b)"
_UNIT_GROUPS = re.compile(
    rf"(?<=[\d)}}%])\s*(?:[/·-]?\s*(?:{_TEXT}|\\mathrm\s*\{{(?![eid]\}})[^{{}}]*\}})(?:\^\{{?-?\d\}}?)?\s*)+(?=$|,|;)"
)
_UNIT_WORDS = re.compile(
    rf"(?:(?<=[\d)}}%])|(?<=(?<![A-Za-z\\])[A-Za-z])|(?<=\\pi))\s+{_NO_UNIT}"
    rf"(?:[A-Za-z]{{3,}}|{_SHORT_UNITS})(?:\^\d)?(?:[\s/.-]+{_NO_UNIT}[A-Za-z]+(?:\^\d)?){{0,4}}$"
    r"|(?<=\d)(?:mm|cm|km|kg|mg|ml|km/h|mph)(?:\^\d)?$"
    r"|(?<=\d)\s*[\u0400-\u04ff\u3040-\u9fff]+$"  # 18元, and the step tag of Math-Shepherd
)
_POWER = re.compile(r"\^\{?(\d)\}?$")
_ABOUT = re.compile(
    r"^(?:about|approximately|around|roughly|exactly|nearly|almost|\\approx|\\sim)\s*(?=[-.\d\\])", re.IGNORECASE
)


def tidy(text: str) -> str:
    """Return the same mathematics without what carries no meaning, in one way of writing it."""
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.lstrip(" ,;:*=").rstrip(" .,;:*=")


def same_text(one: str, other: str) -> bool:
    """Return True when two tidy strings are the same but for case, spaces, needless braces and text commands."""
    return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    text = re.sub(_NAMED, r"\1", re.sub(_TEXT, r"\1", text))
    text = re.sub(r"\{(\w)\}|(?<=[_^])\{(\w+)\}", r"\1\2", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])|(?<=\d) (?=[A-Za-z])|(?<=[A-Za-z]) (?=\d)", "", text)
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)  # (C), one of several choices
    return text.casefold().strip(" .,;:\"'")


def has_words(text: str) -> bool:
    """Return True when a tidy string holds prose, so that it cannot be read as mathematics as a whole."""
    groups = re.findall(_TEXT, text)
    if any(re.search("[A-Za-z]", group) and group.strip() not in ("and", "or") for group in groups):
        return True
    words = [word.lower() for word in _WORD.findall(_COMMANDS.sub(" ", re.sub(_TEXT, " ", text)))]
    return any(word in _SHORT_WORDS or (len(word) > 2 and word not in _NO_PROSE) for word in words)


def unit_power(text: str) -> str | None:
    r"""Return the exponent of the unit that a tidy string ends in, 2 of `15\text{ cm}^2`; None where there is none."""
    power = _POWER.search(text)
    return power[1] if power and without_units(text) != text else None


def without_units(text: str) -> str:
    """Return a tidy string without "about" before it and units after it, where numbers are left."""
    text = _UNIT_GROUPS.sub("", _ABOUT.sub("", text))
    shorter = _UNIT_WORDS.sub("", text)
    return (text if has_words(shorter) else shorter).rstrip(" .,;:")
