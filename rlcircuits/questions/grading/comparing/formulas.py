r"""Compare two formulas in tidy LaTeX, each under every reading that its notation allows.

`50%` may stand for 50 and for 1/2, `x=5` for 5, `\pm 2` for `2, -2`. `_readings` lists the pairs of strings that the
notation allows, and `_same` compares one pair: numbers and ratios exactly, sets of real numbers in `real_sets.py`,
everything else in `symbolic.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlcircuits.questions.grading.comparing.real_sets import same_set
from rlcircuits.questions.grading.comparing.symbolic import APPROXIMATELY, same_expression
from rlcircuits.questions.grading.notation.brackets import bracket_depth, split_at, within_brackets
from rlcircuits.questions.grading.notation.latex import same_text
from rlcircuits.questions.grading.notation.numerals import number, ratio_terms, same_number

__all__ = ["LONGEST_FORMULA", "same_formula"]

LONGEST_FORMULA = 2000
"""Most characters of a formula that is parsed. A longer formula must match letter by letter."""
DEEPEST_BRACKETS = 20
"""Most nested brackets of an answer that is parsed: the parser takes minutes over more. A formula with more must match
letter by letter."""

_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])")
_MINUS_PLUS = re.compile(r"\\mp(?![A-Za-z])")
_NO_SINGLE_VALUE = re.compile(r"[,<>]|\\(?:leq|geq|neq)(?![A-Za-z])")
_IN_BASE = re.compile(r"(\d+)_\{?\d+\}?", re.ASCII)
_MEMBER = re.compile(r"^[A-Za-z]\s*\\in(?![A-Za-z])\s*")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\^\{?-1\}?|\^\{?\\prime\}?|')*\s*(?:\([^()]*\))?")
_SPLIT = re.compile(r"(?P<equals>(?<![<>!:\\])=|\\approx(?![A-Za-z]))|[,;]|\b(?:and|or)\b|\\text")
_COMMA = re.compile(",")
_DEGREES = re.compile(
    r"(?P<angle>(?<!\d)\d+(?:\.\d+)?|(?<![A-Za-z\\])\\?[A-Za-z]+|\([^()]*\)|\{[^{}]*\})\s*\^\\circ"
    r"(?:\s*(?:[CF](?![A-Za-z])|\\mathrm\{\s*[CF]\s*\}))?"
)
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")


def same_formula(answer: str, reference: str) -> bool:
    """Return True when two formulas in tidy LaTeX are the same mathematics under at least one reading."""
    if same_text(answer, reference) or any(_same(*pair) for pair in _readings(answer, reference)):
        return True
    theirs, ours = _with_both_signs(answer), _with_both_signs(reference)
    return (theirs, ours) != (answer, reference) and any(_same(*pair) for pair in _readings(theirs, ours))


def _with_both_signs(text: str) -> str:
    r"""Write `x=1\pm 2` as `1+2, 1-2`. Lists and inequalities stay as they are."""
    if not _PLUS_MINUS.search(text) or _NO_SINGLE_VALUE.search(text) or text.count("=") > 1:
        return text
    value = text.rpartition("=")[2]
    return ", ".join(
        _MINUS_PLUS.sub(other, _PLUS_MINUS.sub(sign, value)).strip().removeprefix("+") for sign, other in ("+-", "-+")
    )


def _readings(answer: str, reference: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of strings, answer and reference, of which at least one must agree."""
    if based := _IN_BASE.fullmatch(reference):
        # math-verify ignores the base, so only the same base is right. Digits without a base count as in that base.
        if "_" not in answer:
            yield answer, based.group(1)
        return
    if ("%" in answer) != ("%" in reference):
        yield _hundredth(answer), _hundredth(reference)
    exact = _sides(APPROXIMATELY.split(answer)[0].strip())[-1]  # the exact value before its rounding
    if APPROXIMATELY.search(answer) and not (APPROXIMATELY.search(reference) or _NAME.fullmatch(exact)):
        yield exact, _sides(reference)[-1]
    if (r"\circ" in answer and r"\pi" in reference) or (r"\circ" in reference and r"\pi" in answer):
        yield _in_radians(answer), _in_radians(reference)
    answer, reference = (_MEMBER.sub("", _without_degrees(text.replace("%", ""))) for text in (answer, reference))
    theirs, ours = _sides(answer), _sides(reference)
    if len(ours) == 1 and len(theirs) > 1:
        yield theirs[-1], reference
    elif len(theirs) == 1 and len(ours) > 1 and _names_a_value(ours[0]):
        yield answer, ours[-1]
    elif len(theirs) > 1 and len(ours) > 1 and same_text(theirs[0], ours[0]):
        yield theirs[-1], ours[-1]
    else:
        yield "=".join(theirs), "=".join(ours)


def _hundredth(text: str) -> str:
    return rf"\frac{{{text.replace('%', '')}}}{{100}}" if "%" in text else text


def _without_degrees(text: str) -> str:
    r"""Remove degree signs as one removes units. Angles of trigonometric functions, `\sin 30^\circ`, become radians."""
    return _in_radians(text) if _TRIGONOMETRY.search(text) else _DEGREES.sub(r"\g<angle>", text)


def _in_radians(text: str) -> str:
    return _DEGREES.sub(r"(\\frac{\\pi}{180} \\cdot \g<angle>)", text)


def _names_a_value(left_side: str) -> bool:
    r"""Return True for a left side that names the right one: `y`, `f(x)` and `\log 100`, but not `x^2-11`."""
    return bool(_NAME.fullmatch(left_side)) or not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", left_side))


def _sides(text: str) -> list[str]:
    r"""Split an equation at every `=` and `\approx` outside of brackets, so that `\sum_{n=1}` is one side.

    A list is one side too. `5 = x` is turned round.
    """
    sides, start, depth = [], 0, 0
    places = {match.start(): match for match in _SPLIT.finditer(text)}
    for place, character in enumerate(text):
        depth += (character in "({[") - (character in ")}]")
        if depth <= 0 and place in places:
            if not places[place]["equals"]:
                return [text]
            sides.append(text[start:place].strip())
            start = places[place].end()
    sides.append(text[start:].strip())
    return sides[::-1] if len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]) else sides


def _same(answer: str, reference: str) -> bool:
    """Compare one reading of two formulas, by the first of the ways below that applies to both."""
    if not answer or not reference:
        return False
    if number(answer) is not None and number(reference) is not None:
        return same_number(answer, reference)
    if max(len(answer), len(reference)) > LONGEST_FORMULA or bracket_depth(answer) > DEEPEST_BRACKETS:
        return False
    ratios = ratio_terms(answer), ratio_terms(reference)
    if None not in ratios:
        return ratios[0] == ratios[1]
    as_sets = same_set(answer, reference)
    if as_sets is not None:
        return as_sets
    unlike = {_collection(answer), _collection(reference)} in ({"point", "set"}, {"point", "list"})
    return not unlike and same_expression(answer, reference)


def _collection(text: str) -> str:
    r"""Return "point" for `(2,5)`, "set" for `\{2,5\}`, "list" for `2,5`, and "" for all else, as for `x=2, y=5`."""
    inside = within_brackets(text)
    if inside is not None:
        return "point" if len(split_at(_COMMA, inside)) > 1 else ""
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return "set"
    members = split_at(_COMMA, text)
    return "list" if len(members) > 1 and not any("=" in member for member in members) else ""
