r"""Group the values that a sentence names together: `5 or 6`, `1, 2 and 3`, `2 hours and 15 minutes`, `5 to 6`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from rlcircuits.questions.grading.notation.units import conversion_factor
from rlcircuits.questions.grading.reading.hedges import BOUNDS, PRECISION, is_denied, is_possible
from rlcircuits.questions.grading.reading.tokens import Sentence
from rlcircuits.questions.grading.reading.values import Value, latex_of, read_value
from rlcircuits.questions.grading.reading.words import word_set

__all__ = ["Group", "Link", "alternatives", "groups_of", "is_name", "left_side"]

Link = Literal["", "and", "or"]


@dataclass(frozen=True)
class Group:
    """Values that a sentence names together, at `sentence[start:end]`."""

    values: tuple[Value, ...]
    link: Link
    """How the values belong together: "and" for a list, "or" for alternatives, "" for one value."""
    start: int
    end: int
    denied: bool = False
    """The sentence says that these values are not the answer, or only bound it."""
    possible: bool = False
    """The sentence calls these values only possible."""


_MORE = word_set("more less fewer greater higher lower larger smaller above below over under")
_RATIO = word_set("ratio ratios proportion odds scale probability probabilities chance chances likelihood fraction")
_AFTER_A_LINK = word_set(
    "maybe perhaps possibly also even else either rather equivalently just simply about it may could might be is"
)
_LONGEST_UNIT_IN_A_LIST = 2
_RELATION = re.compile(r"[=<>]|\\(?:leq|geq|approx|in)(?![A-Za-z])")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_NAME = re.compile(r"(?:(?!\\(?:pi|infty|emptyset)(?![A-Za-z]))\\?[A-Za-z]+(?:_\{?\w+\}?)?'*\s*)+")
_LONGEST_NAME = 20


def groups_of(sentence: Sentence, announced: bool) -> Iterator[Group]:
    """Yield the groups of a sentence, in order.

    Args:
        sentence: its tokens.
        announced: the sentence is the answer, as after "the answer is". A comma then separates the values of a list.
    """
    of_ratio = any(token.text in _RATIO for token in sentence)
    place = 0
    while place < len(sentence):
        group = _group(sentence, place, announced, of_ratio)
        if group is None:
            place += 1
        else:
            yield group
            place = group.end


def _group(sentence: Sentence, start: int, announced: bool, of_ratio: bool) -> Group | None:
    """Read the group that begins at token `start`; return None if no value begins there."""
    first = read_value(sentence, start)
    if first is None:
        return None
    values, ends, links = [first[0]], [first[1]], [""]
    denied = False
    while True:
        place = ends[-1]
        if merged := _merged(sentence, place, values[-1], of_ratio):
            values[-1], ends[-1] = merged
        elif sentence.word(place) == "or" and sentence.word(place + 1) in _MORE:  # 5 or more
            denied, ends[-1] = True, place + 2
        elif after := _end_of_range(sentence, place, values[-1]):
            denied, ends[-1] = True, after
        elif joined := _next_value(sentence, place, values[-1], of_any_kind=sentence.word(start - 1) == "either"):
            link, value, after = joined
            if (link == ", and" and links == [""] and not announced) or sentence.word(start - 1) in BOUNDS:
                break  # a new clause begins
            values, ends, links = [*values, value], [*ends, after], [*links, link]
        else:
            break
    if links == ["", ""] and not announced:  # "in week 1, 12 of them" is no list
        values, ends = values[:1], ends[:1]
    denied = denied or (sentence.word(start - 1) == "between" and len(values) > 1)
    denied = denied or is_denied(sentence, start, ends[-1], announced)
    group = Group(tuple(values), "and", start, ends[-1], denied, is_possible(sentence, start))
    if any("or" in link for link in links):
        group = replace(group, link="or")
        if not announced:  # "half of 1, or 1/2": only the last counts
            meant = values[-1:] if sentence.word(start - 1) == "of" else alternatives(values)
            group = replace(group, values=tuple(meant))
    return replace(group, link="") if len(group.values) == 1 else group


def _merged(sentence: Sentence, place: int, value: Value, of_ratio: bool) -> tuple[Value, int] | None:
    """Merge a value with the next one if the two are one amount or ratio; return it and the index after it."""
    place += sentence.mark(place) == "," and sentence.word(place + 1) == "or"
    linked = sentence.word(place) or sentence.mark(place)
    if linked == "out" and sentence.word(place + 1) == "of":
        return _out_of(sentence, place + 2, value, of_ratio)
    skipped = linked in ("and", "or", "to", ",", "(", "=")
    read = read_value(sentence, place + skipped)
    if read is None:
        return None
    if linked == "to":
        return (Value(f"{value.latex}:{read[0].latex}", read[0].unit), read[1]) if of_ratio else None
    merged = _same_amount(value, read[0]) if linked in ("or", "(", "=") else _sum(value, read[0], linked)
    return None if merged is None else (merged, read[1])


def _out_of(sentence: Sentence, place: int, value: Value, of_ratio: bool) -> tuple[Value, int] | None:
    """Read `5 out of 36` as 5/36 if the sentence is about a ratio or probability, and as 5 otherwise."""
    read = read_value(sentence, place)
    if read is None or value.number is None or not read[0].number:
        return None
    return (Value(latex_of(value.number / read[0].number), plain=True) if of_ratio else value), read[1]


def _sum(value: Value, part: Value, linked: str) -> Value | None:
    """Return the sum of two parts of one amount: `2 hours` and `15 minutes`, `2` and `2/3 cups`; otherwise None."""
    amount, more = value.number, part.number
    if amount is None or more is None or part.latex.startswith("-"):
        return None
    if (
        linked == "and"
        and part.unit
        and not value.unit
        and value.latex.isdigit()
        and more < 1
        and "." not in part.latex
    ):
        return Value(latex_of(amount + more), part.unit, plain=True)
    units = [unit for _, unit in value.readings]
    if not ((conversion_factor(units[-1], part.unit) or 0) > 1):
        return None
    last = Value(value.readings[-1][0], plain=True).number or amount
    total = last * (conversion_factor(units[-1], part.unit) or 1) + (more if last >= 0 else -more)
    readings = [(latex_of(total / (conversion_factor(unit, part.unit) or 1)), unit) for unit in [*units, part.unit]]
    return Value(*readings[0], plain=True, also=tuple(readings[1:]))


def _same_amount(value: Value, other: Value) -> Value | None:
    """Merge two values that are the same amount in two units, `2 hours or 120 minutes`; otherwise return None."""
    size = conversion_factor(value.unit, other.unit)
    if ("%" in value.latex) != ("%" in other.latex):
        size = Fraction(100) if "%" in other.latex else Fraction(1, 100)
    if value.number is None or other.number is None or size is None or value.number * size != other.number:
        return None
    return replace(value, also=(*value.also, (other.latex, other.unit)))


def _end_of_range(sentence: Sentence, place: int, value: Value) -> int | None:
    """Return the index after a range such as `5 to 6`; None if the value begins no range."""
    read = read_value(sentence, place + 1) if sentence.word(place) == "to" else None
    if read is None or not (value.plain and read[0].plain) or value.unit not in ("", read[0].unit):
        return None
    return None if PRECISION & {*sentence.words(place, read[1] + 1)} else read[1]


def _next_value(
    sentence: Sentence, place: int, value: Value, of_any_kind: bool = False
) -> tuple[str, Value, int] | None:
    """Read the next value of a list: `, 5`, `and 5`, `, or maybe 5`.

    A name and a number are one list only with `of_any_kind`, as in `either x or 5`.

    Returns:
        The words that link the value to the list, the value, and the index after it; None if the list ends.
    """
    comma = sentence.mark(place) in (",", ";")
    link = sentence.word(place + comma)
    after = place + comma
    if link in ("and", "or", "nor"):
        after += 1
        while sentence.word(after) in _AFTER_A_LINK:
            after += 1
    elif comma:
        link = ""
    else:
        return None
    read = read_value(sentence, after)
    if read is None or (is_name(read[0]) != is_name(value) and not of_any_kind):
        return None
    longest_unit = max(len(unit.split()) for unit in (value.unit, read[0].unit))
    if longest_unit > _LONGEST_UNIT_IN_A_LIST or (not link and value.unit != read[0].unit):
        return None
    return ", " * (comma and link == "and") + link, read[0], read[1]


def alternatives(values: Sequence[Value]) -> list[Value]:
    """Drop the values that are steps to the last one: keep `x = 5` of `2x = 10, or x = 5`, and both of `5 or 6`."""
    return [value for value in values if value is values[-1] or not _leads_to(value, values[-1])]


def _leads_to(value: Value, last: Value) -> bool:
    name, last_name = left_side(value), left_side(last)
    if last_name is not None:
        return name != last_name
    if name is not None:
        return not name.isalpha() or value.latex.count("=") > 1
    return last.plain and _VARIABLE.search(value.latex) is not None


def left_side(value: Value) -> str | None:
    """Return the left side of an equation, or the variable of an inequality; None for anything else."""
    sides = [side.strip() for side in _RELATION.split(value.latex)]
    if len(sides) < 2:
        return None
    names = [] if "=" in value.latex else [side for side in sides if _NAME.fullmatch(side)]
    return names[0] if names else sides[0]


def is_name(value: Value) -> bool:
    r"""Return True for the name of a quantity, `x` or `\angle ABC`."""
    return len(value.latex) <= _LONGEST_NAME and _NAME.fullmatch(value.latex) is not None
