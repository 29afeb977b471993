r"""Normalize LaTeX: remove what carries no meaning, and write the rest in one way.

A string that `tidy` returned is called tidy in the other modules. `same_text` compares two tidy strings letter by
letter, and `has_words` tells prose from mathematics.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rlcircuits.questions.grading.notation.environments import without_environments
from rlcircuits.questions.grading.notation.numerals import join_thousands, spell_powers_of_ten
from rlcircuits.questions.grading.notation.unicode_characters import CURRENCY_SIGNS, ascii_latex

__all__ = ["TEXT_COMMAND", "has_words", "plain_text", "same_text", "tidy"]

TEXT_COMMAND = r"\\(?:text|textbf|textit|textrm|textnormal|mbox)\s*\{([^{}]*)\}"

_ONE_FOR_MANY = {
    rf"\{command}": replacement
    for replacement, commands in {
        " ": "left right big Big bigl bigr Bigl Bigr bigg Bigg biggl biggr Biggl Biggr displaystyle limits hline quad "
        "qquad bf rm yen pounds euro texteuro textyen textsterling textcent",
        r"\frac": "dfrac tfrac cfrac",
        r"\geq": "ge geqslant",
        r"\leq": "le leqslant",
        r"\neq": "ne",
        "<": "lt",
        ">": "gt",
        r"\emptyset ": "varnothing oslash",
        r"\mathbb{R}": "Reals R",
        r"^\circ ": "degree textdegree",
    }.items()
    for command in commands.split()
}
_COMMAND = re.compile(r"\\[A-Za-z]+")
_REWRITES_OF_COMMANDS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)\s*\.", " "),
        (r"\\(?:label|tag)\{[^{}]*\}", " "),
        (r",\\!\s*", ","),
        (r"(?<=\d)\\[,;:! ]\s*(?=\d{3}(?!\d))", ""),  # 1\,000
        (r"\\[,;:!]|(?<!\\)\\ |\\\$|(?<!\\)\\[()\[\]]", " "),
        (r"\\%", "%"),
        (r"\\\{\s*\\\}", r"\\emptyset "),
        (r"\\(?:mathbb|Bbb)\s*(?:R(?![A-Za-z])|\{\s*R\s*\})", r"\\mathbb{R}"),
        (r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})", r"^\\circ "),
    )
)
_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt"
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\{,\}", ","),
        (rf"[~$`{CURRENCY_SIGNS}]|__", " "),
        (rf"(?<![A-Za-z\\])({_FUNCTIONS})(?=\s*[(\d\\^{{]|\s[A-Za-z]\b)", r"\\\1 "),  # sin x, sqrt(2)
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (r"(?<=\d)i(?![A-Za-z])", " i"),  # math-verify reads the i of 2i as a variable
        (r"\s+", " "),
    )
)

_NAMED = re.compile(r"\\(?:mathbf|mathrm|operatorname)\s*\{([^{}]*)\}")  # as often variables and functions as units
_TEXT = re.compile(TEXT_COMMAND)
_COMMANDS = re.compile(r"\\(?:begin|end)\s*\{[a-z]+\*?\}(?:\{[^{}]*\})?|\\math[a-z]+\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_NO_PROSE = frozenset(
    ("and", "or", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "exp", "sqrt")
)
_SHORT_WORDS = frozenset(
    ("no", "is", "at", "of", "to", "if", "it", "we", "in", "by", "on", "as", "so", "be", "an", "do")
)
_ROOT_BEFORE = re.compile(r"\\sqrt\s*(?:\[\d+\])?\s*$")
_LETTERS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\{(\w)\}|(?<=[_^])\{(\w+)\}", r"\1\2"),
        (r"\s+", " "),
        (r"(?<![A-Za-z\d]) | (?![A-Za-z\d])|(?<=\d) (?=[A-Za-z])|(?<=[A-Za-z]) (?=\d)", ""),
        (r"^\(([A-Za-z])\)$", r"\1"),  # (C), one of several choices
    )
)


@lru_cache(maxsize=64)
def tidy(text: str) -> str:
    r"""Return the same mathematics in normalized LaTeX: `$\dfrac{1}{2}\,$` becomes `\frac{1}{2}`."""
    text = ascii_latex(text)
    if "\\" in text:
        for pattern, replacement in _REWRITES_OF_COMMANDS:
            text = pattern.sub(replacement, text)
        text = _COMMAND.sub(lambda command: _ONE_FOR_MANY.get(command[0], command[0]), text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = spell_powers_of_ten(join_thousands(_braced_roots(without_environments(text))))
    return text.lstrip(" ,;:*=_").rstrip(" .,;:*=_")


def _braced_roots(text: str) -> str:
    r"""Write `\sqrt(2)` as `\sqrt{2}`."""
    if r"\sqrt" not in text:
        return text
    pieces = list(text)
    opened: list[int | None] = []
    for place, character in enumerate(text):
        if character == "(":
            root = _ROOT_BEFORE.search(text, max(0, place - 12), place)
            opened.append(place if root else None)
        elif character == ")" and opened and (opening := opened.pop()) is not None:
            pieces[opening], pieces[place] = "{", "}"
    return "".join(pieces)


def same_text(one: str, other: str) -> bool:
    """Return True if two tidy strings differ at most in case, spaces, redundant braces and text commands."""
    return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    text = _NAMED.sub(r"\1", _TEXT.sub(r"\1", text))
    for pattern, replacement in _LETTERS:
        text = pattern.sub(replacement, text)
    return text.casefold().lstrip(" ,;:\"'").rstrip(" .,;:\"'")


def plain_text(text: str) -> str:
    r"""Return a tidy string in which `\text{...}` and similar commands are replaced by their contents."""
    return " ".join(_TEXT.sub(r" \1 ", text).split())


def has_words(text: str) -> bool:
    """Return True if a tidy string contains prose, so that it cannot be read as one formula."""
    groups = _TEXT.findall(text)
    if any(re.search("[A-Za-z]", group) and group.strip() not in ("and", "or") for group in groups):
        return True
    words = (word.lower() for word in _WORD.findall(_COMMANDS.sub(" ", _TEXT.sub(" ", text))))
    return any(word in _SHORT_WORDS or (len(word) > 2 and word not in _NO_PROSE) for word in words)
