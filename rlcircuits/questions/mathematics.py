r"""Whether a mathematical answer is right.

Source: math-verify (https://github.com/huggingface/Math-Verify), with latex2sympy2_extended and SymPy, compares the
mathematics. What stands here hands it the right two strings:

- the answer is the one the text states (`stated.py`), not any formula in it;
- what is the same letter by letter is the same, so prose and what SymPy cannot read still have a right answer;
- mathematics is compared as a whole: where a part of either side cannot be read, the answer is wrong;
- numbers are compared exactly, since math-verify rounds to six places; of units their exponents are;
- `symbolic.py` compares equations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from rlcircuits.questions.latex import has_words, same_text, tidy, unit_power, without_units
from rlcircuits.questions.stated import mathematics_within, said_last, stated_answer
from rlcircuits.questions.symbolic import same_formula

__all__ = ["equivalent", "grade_math"]

_DECIMAL = r"[-+]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?"
_RATIO = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:(?P<whole>\d+)(?:\s*(?=\\frac)|\s+(?=\d+\s*/)))?"
    rf"(?:\\frac\s*\{{\s*(?P<a>{_DECIMAL})\s*\}}\s*\{{\s*(?P<b>{_DECIMAL})\s*\}}"
    rf"|(?P<c>{_DECIMAL})(?:\s*/\s*(?P<d>{_DECIMAL}))?)",
    re.ASCII,
)
_IN_BASE = re.compile(r"(\d+)_\{?\d+\}?", re.ASCII)
_MEMBER = re.compile(r"^[A-Za-z]\s*\\in(?![A-Za-z])\s*")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\^\{?-1\}?|\^\{?\\prime\}?|')*\s*(?:\([^()]*\))?")
_SPLIT = re.compile(r"(?P<equals>(?<![<>!:\\])=|\\approx(?![A-Za-z]))|[,;]|\b(?:and|or)\b|\\text")


def grade_math(text: str, gold: str) -> bool:
    """Return True when the answer that `text` states is mathematically `gold`.

    It may take very long on a malicious answer: :func:`rlcircuits.questions.grading.grade_all` stops it.
    Raises RLCircuitsError where math-verify is not installed.
    """
    return any(same_text(tidy(said), tidy(gold)) for said in (text, said_last(text))) or equivalent(
        stated_answer(text), gold
    )


def equivalent(answer: str, gold: str) -> bool:
    """Return True when two answers, without the sentences around them, say the same."""
    raw, answer, gold = answer, tidy(answer), tidy(gold)
    if not answer or not gold:
        return False
    if same_text(answer, gold):
        return True
    powers = unit_power(answer), unit_power(gold)
    if None not in powers and powers[0] != powers[1]:
        return False
    answer, gold = without_units(answer), without_units(gold)
    if same_text(answer, gold):
        return True
    if has_words(gold):
        return False
    if has_words(answer):
        answer = without_units(tidy(mathematics_within(raw)))
    return any(_same(one, other) for one, other in _readings(answer, gold))


def _readings(answer: str, gold: str) -> Iterator[tuple[str, str]]:
    """Give the pairs of strings of which one must agree: `50%` may stand for 50 and for 1/2, `x=5` for 5."""
    if based := _IN_BASE.fullmatch(gold):
        # math-verify does not see the base. Without one, the digits are taken to be in the base asked for.
        if "_" not in answer:
            yield answer, based.group(1)
        return
    if ("%" in answer) != ("%" in gold):
        yield _hundredth(answer), _hundredth(gold)
    answer, gold = (_MEMBER.sub("", text.replace("%", "")) for text in (answer, gold))
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


def _names_a_value(left_side: str) -> bool:
    r"""Tell `y`, `f(x)` and `\log 100`, whose value stands after `=`, from `x^2-11`, which is no name for 0."""
    return bool(_NAME.fullmatch(left_side)) or not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", left_side))


def _sides(text: str) -> list[str]:
    r"""Split an equation at `=` and `\approx`, but not within brackets: `\sum_{n=1}` is one side, a list too."""
    sides, start, depth = [], 0, 0
    places = {match.start(): match for match in _SPLIT.finditer(text)}
    for place, character in enumerate(text):
        depth += (character in "({[") - (character in ")}]")
        if depth <= 0 and place in places:
            if not places[place]["equals"]:
                return [text]
            sides.append(text[start:place].strip())
            start = places[place].end()
    return [*sides, text[start:].strip()]


def _same(answer: str, gold: str) -> bool:
    if not answer or not gold:
        return False
    numbers = _number(answer), _number(gold)
    if numbers[0] is not None and numbers[0] == numbers[1]:
        return True
    if all(re.fullmatch(_DECIMAL, text, re.ASCII) for text in (answer, gold)):
        return False
    return same_formula(answer, gold)


def _number(text: str) -> Fraction | None:
    r"""Return the value of `-1,234.5`, `3/4`, `1 3/4` or `\frac{3}{4}`, None for anything else."""
    match = _RATIO.fullmatch(text)
    if not match:
        return None
    try:
        above, below = (
            Fraction((match[one] or match[other] or "1").replace(",", "").replace(" ", ""))
            for one, other in (("a", "c"), ("b", "d"))
        )
        return (-1 if match["sign"] == "-" else 1) * (int(match["whole"] or 0) + above / below)
    except (ValueError, ZeroDivisionError):
        return None
