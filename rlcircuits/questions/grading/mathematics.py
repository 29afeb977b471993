r"""Whether a mathematical answer is right.

Source: math-verify (https://github.com/huggingface/Math-Verify), with latex2sympy2_extended and SymPy, compares the
mathematics. What stands before it:

1. `stated.py` finds the piece of a text that states the answer, and `statement.py` the values which that piece states;
2. what is the same letter by letter is the same, so prose and what SymPy cannot read still have a right answer;
3. numbers are compared exactly, units by their kind and exponent;
4. `real_sets.py` compares sets of numbers, `symbolic.py` equations and expressions, both as a whole: where a part of
   either side cannot be read, the answer is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlcircuits.questions.grading.brackets import depth_of_brackets, split_at, within_brackets
from rlcircuits.questions.grading.extract_answer import ExtractedAnswer, extract_answer, said_last
from rlcircuits.questions.grading.latex import has_words, plain_text, same_text, tidy
from rlcircuits.questions.grading.numerals import number, ratio_terms, same_number
from rlcircuits.questions.grading.real_sets import named_set, same_set, set_said_last
from rlcircuits.questions.grading.statement import Statement, stated_values, whole_statement
from rlcircuits.questions.grading.symbolic import APPROXIMATELY, same_formula
from rlcircuits.questions.grading.units import power, ratio, without_unit
from rlcircuits.questions.grading.values import Value

__all__ = ["LONGEST_FORMULA", "equivalent", "grade_math"]

LONGEST_FORMULA = 2000
"""Characters of mathematics that are compared; what is longer is right only letter by letter."""
DEEPEST_BRACKETS = 20
"""So are formulas with more brackets within each other, which take the parser minutes."""

_ABOUT = re.compile(r"^\\(?:approx|sim)\s*(?=[-.\d\\])")
_CONNECTED = re.compile(r"\b(?:and|or)\b")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])")
_NO_SINGLE_VALUE = re.compile(r"[,<>]|\\(?:leq|geq|neq)(?![A-Za-z])")
_MINUS_PLUS = re.compile(r"\\mp(?![A-Za-z])")
_IN_BASE = re.compile(r"(\d+)_\{?\d+\}?", re.ASCII)
_MEMBER = re.compile(r"^[A-Za-z]\s*\\in(?![A-Za-z])\s*")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\^\{?-1\}?|\^\{?\\prime\}?|')*\s*(?:\([^()]*\))?")
_SPLIT = re.compile(r"(?P<equals>(?<![<>!:\\])=|\\approx(?![A-Za-z]))|[,;]|\b(?:and|or)\b|\\text")
_COMMA = re.compile(",")
_DEGREES = re.compile(
    r"(?P<angle>(?<!\d)\d+(?:\.\d+)?|(?<![A-Za-z\\])\\?[A-Za-z]+|\([^()]*\)|\{[^{}]*\})\s*\^\\circ"
    r"(?:\s*(?:[CF](?![A-Za-z])|\\mathrm\{\s*[CF]\s*\}))?"
)
_INEQUALITY = re.compile(r"[<>]|\\(?:leq|geq)(?![A-Za-z])")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")


def grade_math(text: str, gold: str) -> bool:
    """Return True when the answer that `text` states is mathematically `gold`.

    It may take very long on a malicious answer: :func:`rlcircuits.questions.grading.graders.grade_all` stops it.
    Raises RLCircuitsError where math-verify is not installed.
    """
    letters = tidy(gold)
    return any(same_text(tidy(said), letters) for said in (text, said_last(text))) or _agrees(
        extract_answer(text), gold
    )


def equivalent(answer: str, gold: str) -> bool:
    """Return True when two answers, without the sentences around them, say the same."""
    return _agrees(ExtractedAnswer(answer, announced=True), gold)


def _agrees(answer: ExtractedAnswer, gold: str) -> bool:
    letters = tidy(answer.text), tidy(gold)
    if not all(letters):
        return False
    if same_text(*letters):
        return True
    ours = _of_gold(gold)
    if ours is None:
        return False
    return any(_same_statement(theirs, ours) for theirs in _of_answer(answer))


def _of_gold(gold: str) -> Statement | None:
    """Return what a gold answer states, None for words, of which only the same letters are right."""
    letters = tidy(gold)
    if named := named_set(plain_text(letters)):
        return Statement((Value(named),))
    whole = whole_statement(gold)
    if has_words(letters) or _CONNECTED.search(letters) or (whole and all(value.plain for value in whole.values)):
        return whole
    return _of_formula(letters)


def _of_answer(answer: ExtractedAnswer) -> Iterator[Statement]:
    """Give the statements of which one must agree with the gold one."""
    letters = tidy(answer.text)
    if named := named_set(plain_text(letters)):
        yield Statement((Value(named),))
    prose = has_words(letters) or _CONNECTED.search(letters) is not None
    if prose:
        if said := set_said_last(plain_text(letters)):
            yield Statement((Value(said),))
        yield from stated_values(answer.text, answer.announced)
    else:
        if whole := whole_statement(answer.text):
            yield whole
        yield _of_formula(letters)


def _of_formula(letters: str) -> Statement:
    return Statement((Value(*without_unit(_ABOUT.sub("", letters))),))


def _same_statement(answer: Statement, gold: Statement) -> bool:
    if len(answer.values) == len(gold.values) == 1:
        return _same_value(answer.values[0], gold.values[0])
    if _same_formula(_as_formula(answer), _as_formula(gold)):
        exponents, wanted = _exponents(answer), _exponents(gold)
        return not exponents or not wanted or exponents == wanted
    alternatives = answer.link == "or" and len(gold.values) == 1
    return alternatives and all(_same_value(value, gold.values[0]) for value in answer.values)


def _exponents(statement: Statement) -> set[str]:
    found = {power(_with_its_unit(value.latex, value.unit)[1]) for value in statement.values}
    return {exponent for exponent in found if exponent is not None}


def _as_formula(statement: Statement) -> str:
    members = [without_unit(value.latex)[0] for value in statement.values]
    inequalities = all(_INEQUALITY.search(member) for member in members)
    separator = r" \text{ or } " if statement.link == "or" else r" \text{ and } " if inequalities else ", "
    return separator.join(members)


def _same_value(answer: Value, gold: Value) -> bool:
    return any(_same_amount(theirs, ours) for theirs in answer.readings for ours in gold.readings)


def _same_amount(answer: tuple[str, str], gold: tuple[str, str]) -> bool:
    """Compare two amounts. Units of one kind are converted; of others only the exponents must agree."""
    (theirs, their_unit), (ours, our_unit) = (_with_its_unit(*amount) for amount in (answer, gold))
    exponents = power(their_unit), power(our_unit)
    if their_unit and our_unit and exponents != (None, None) and exponents[0] != exponents[1]:
        return False
    size = ratio(their_unit, our_unit)
    amount, wanted = number(theirs), number(ours)
    if size not in (None, 1) and amount is not None and wanted is not None:
        return amount * (size or 1) == wanted
    return _same_formula(theirs, ours)


def _with_its_unit(latex: str, unit: str) -> tuple[str, str]:
    amount, unit_within = without_unit(latex)
    return amount, unit or unit_within


def _same_formula(answer: str, gold: str) -> bool:
    if same_text(answer, gold) or any(_same(*pair) for pair in _readings(answer, gold)):
        return True
    theirs, ours = _with_both_signs(answer), _with_both_signs(gold)
    return (theirs, ours) != (answer, gold) and any(_same(*pair) for pair in _readings(theirs, ours))


def _with_both_signs(text: str) -> str:
    r"""Write `x=1\pm 2` as `1+2, 1-2`; lists and inequalities stay as they are."""
    if not _PLUS_MINUS.search(text) or _NO_SINGLE_VALUE.search(text) or text.count("=") > 1:
        return text
    value = text.rpartition("=")[2]
    return ", ".join(
        _MINUS_PLUS.sub(other, _PLUS_MINUS.sub(sign, value)).strip().removeprefix("+") for sign, other in ("+-", "-+")
    )


def _readings(answer: str, gold: str) -> Iterator[tuple[str, str]]:
    """Give the pairs of strings of which one must agree: `50%` may stand for 50 and for 1/2, `x=5` for 5."""
    if based := _IN_BASE.fullmatch(gold):
        # math-verify does not see the base. Without one, the digits are taken to be in the base asked for.
        if "_" not in answer:
            yield answer, based.group(1)
        return
    if ("%" in answer) != ("%" in gold):
        yield _hundredth(answer), _hundredth(gold)
    exact = _sides(APPROXIMATELY.split(answer)[0].strip())[-1]  # what stands before its rounding
    if APPROXIMATELY.search(answer) and not (APPROXIMATELY.search(gold) or _NAME.fullmatch(exact)):
        yield exact, _sides(gold)[-1]
    if (r"\circ" in answer and r"\pi" in gold) or (r"\circ" in gold and r"\pi" in answer):
        yield _in_radians(answer), _in_radians(gold)
    answer, gold = (_MEMBER.sub("", _without_degrees(text.replace("%", ""))) for text in (answer, gold))
    theirs, ours = _sides(answer), _sides(gold)
    if len(ours) == 1 and len(theirs) > 1:
        yield theirs[-1], gold
    elif len(theirs) == 1 and len(ours) > 1 and _names_a_value(ours[0]):
        yield answer, ours[-1]
    elif len(theirs) > 1 and len(ours) > 1 and same_text(theirs[0], ours[0]):
        yield theirs[-1], ours[-1]
    else:
        yield "=".join(theirs), "=".join(ours)


def _hundredth(text: str) -> str:
    return rf"\frac{{{text.replace('%', '')}}}{{100}}" if "%" in text else text


def _without_degrees(text: str) -> str:
    r"""Take the degree signs off, as of a unit; `\sin 30^\circ` is written in radians, which SymPy's sine takes."""
    return _in_radians(text) if _TRIGONOMETRY.search(text) else _DEGREES.sub(r"\g<angle>", text)


def _in_radians(text: str) -> str:
    return _DEGREES.sub(r"(\\frac{\\pi}{180} \\cdot \g<angle>)", text)


def _names_a_value(left_side: str) -> bool:
    r"""Tell `y`, `f(x)` and `\log 100`, whose value stands after `=`, from `x^2-11`, which is no name for 0."""
    return bool(_NAME.fullmatch(left_side)) or not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", left_side))


def _sides(text: str) -> list[str]:
    r"""Split an equation at `=` and `\approx`, but not within brackets: `\sum_{n=1}` is one side, a list too.

    `5 = x` is turned round.
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


def _same(answer: str, gold: str) -> bool:
    if not answer or not gold:
        return False
    if number(answer) is not None and number(gold) is not None:
        return same_number(answer, gold)
    if max(len(answer), len(gold)) > LONGEST_FORMULA or depth_of_brackets(answer) > DEEPEST_BRACKETS:
        return False
    ratios = ratio_terms(answer), ratio_terms(gold)
    if None not in ratios:
        return ratios[0] == ratios[1]
    as_sets = same_set(answer, gold)
    if as_sets is not None:
        return as_sets
    unlike = {_collection(answer), _collection(gold)} in ({"point", "set"}, {"point", "list"})
    return not unlike and same_formula(answer, gold)


def _collection(text: str) -> str:
    r"""Tell a point, `(2,5)`, from a set, `\{2,5\}`, and from a list, `2,5`; "" for anything else, `x=2, y=5` too."""
    inside = within_brackets(text)
    if inside is not None:
        return "point" if len(split_at(_COMMA, inside)) > 1 else ""
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return "set"
    members = split_at(_COMMA, text)
    return "list" if len(members) > 1 and not any("=" in member for member in members) else ""
