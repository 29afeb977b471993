r"""Compare sets of real numbers: `x<-1 \text{ or } x>2` is the same set as `(-\infty,-1)\cup(2,\infty)`."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from rlcircuits.questions.grading.comparing.symbolic import parse_latex
from rlcircuits.questions.grading.notation.brackets import split_at
from rlcircuits.questions.grading.notation.numerals import number

__all__ = ["named_set", "read_set", "same_set", "set_named_at_the_end"]

_SHOWS_A_SET = re.compile(r"[<>]|\\(?:leq|geq|neq|cup|setminus|emptyset|mathbb\{R\})(?![A-Za-z])|\\infty\s*[)\]]")
_OR = re.compile(r"\\(?:cup|lor)(?![A-Za-z])|\\text\s*\{\s*or\s*\}|\bor\b")
_AND = re.compile(r"\\(?:cap|land)(?![A-Za-z])|\\text\s*\{\s*and\s*\}|\band\b")
_WITHOUT = re.compile(r"\\setminus(?![A-Za-z])")
_CONDITION = re.compile(
    r"\\\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid(?![A-Za-z])|[|:])(.*)\\\}", re.DOTALL
)
_FINITE = re.compile(r"\\\{(.*)\\\}", re.DOTALL)
_INTERVAL = re.compile(r"([(\[])([^,]*),([^,]*)([)\]])")
_RELATION = re.compile(r"(<|>|\\leq(?![A-Za-z])|\\geq(?![A-Za-z])|\\neq(?![A-Za-z]))")
_TURNED = {"<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq", r"\neq": r"\neq"}
_LETTER = re.compile(r"[A-Za-z]")
_MEMBER = re.compile(r"^\s*([A-Za-z])\s*\\in(?![A-Za-z])")
_ALL = re.compile(r"(?:[a-z] (?:is|can be) )?(?:all|any|every) reals?(?: numbers?| values?)?(?:,? (?:of |for )?[a-z])?")
_ALL_BUT = re.compile(
    r"(?P<all>.{3,60}?),? (?:except|but|other than)(?: for)? (?:[a-z] ?= ?)?(?P<left_out>-?\d+(?:[./]\d+)?)"
)
_SAID = re.compile(r"\b(?:is|are|be|has|have|equals|:)\s+((?:all|any|every|no)\s[^.:]*)$")
_LONGEST_SAID = 100
_NONE = re.compile(r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exists?)?|(?:the )?empty set")


class RealSet(NamedTuple):
    """A SymPy set, and the variable that ranges over it; None if the formula names no variable, as in `(2, 3)`."""

    members: Any
    variable: str | None


def named_set(words: str) -> str | None:
    """Return a set that is named in words, "all real numbers" or "no solution", in LaTeX; None for other words."""
    words = words.casefold().strip(" .$")
    if without := _ALL_BUT.fullmatch(words):
        return rf"\mathbb{{R}}\setminus\{{{without['left_out']}\}}" if _ALL.fullmatch(without["all"]) else None
    return r"\mathbb{R}" if _ALL.fullmatch(words) else r"\emptyset" if _NONE.fullmatch(words) else None


def set_named_at_the_end(sentence: str) -> str | None:
    """Return the set that a sentence names in words at its end, as in `the domain is all real numbers`, or None."""
    said = _SAID.search(sentence[-_LONGEST_SAID:].casefold().rstrip(" .$"))
    return named_set(said[1]) if said else None


def same_set(answer: str, reference: str) -> bool | None:
    """Return whether two tidy strings are the same set of real numbers; None if one of them is no such set."""
    if not (_SHOWS_A_SET.search(answer) or _SHOWS_A_SET.search(reference)):
        return None
    ours = read_set(reference)
    theirs = read_set(answer) if ours is not None else None
    if ours is None or theirs is None:
        return None
    if ours.variable and theirs.variable and ours.variable != theirs.variable:
        return False
    return bool(ours.members == theirs.members) or _same_parts(ours.members, theirs.members)


def _same_parts(one: Any, other: Any) -> bool:
    r"""Compare sets part by part, and their ends by value, since SymPy keeps `\arctan 2` in many forms."""
    parts, other_parts = _parts(one), _parts(other)
    if parts is None or other_parts is None or len(parts) != len(other_parts):
        return False
    return all(
        kinds == other_kinds and len(ends) == len(other_ends) and all(map(_same_end, ends, other_ends))
        for (kinds, ends), (other_kinds, other_ends) in zip(parts, other_parts, strict=True)
    )


def _parts(members: Any) -> list[Any] | None:
    """Return the kind and the ends of each part of a set, from left to right; None if a part is of another kind."""
    from sympy import FiniteSet, Interval, Union

    found: list[Any] = []
    for part in members.args if isinstance(members, Union) else (members,):
        if isinstance(part, Interval):
            found.append(((part.left_open, part.right_open), (part.start, part.end)))
        elif isinstance(part, FiniteSet):
            found += [("point", (point,)) for point in part]
        else:
            return None
    return sorted(found, key=lambda part: float(part[1][0]))


def _same_end(one: Any, other: Any) -> bool:
    """Compare two ends; a decimal agrees with an irrational number if six significant digits do."""
    if one == other:
        return True
    if one.is_infinite or other.is_infinite or (one.is_Rational and other.is_Rational):
        return False
    tolerance = 5e-7 if one.is_Rational or other.is_Rational else 1e-12
    return math.isclose(one.evalf(20), other.evalf(20), rel_tol=tolerance)


def read_set(text: str) -> RealSet | None:
    """Return the set of real numbers that a tidy string describes, or None."""
    from sympy import Union

    text = text.strip()
    if condition := _CONDITION.fullmatch(text):
        inside = read_set(condition[2])
        return inside if inside is not None and inside.variable in (condition[1], None) else None
    parts = [_read_part(part) for part in split_at(_OR, text)]
    variables = {part.variable for part in parts if part is not None} - {None}
    if None in parts or len(variables) > 1:
        return None
    return RealSet(Union(*(part.members for part in parts if part)), next(iter(variables), None))


def _read_part(text: str) -> RealSet | None:
    """Read one operand of a union: an intersection of sets, minus other sets."""
    from sympy import Intersection

    kept, *removed = [[_read_atom(atom) for atom in split_at(_AND, part)] for part in split_at(_WITHOUT, text)]
    atoms = [*kept, *(atom for part in removed for atom in part)]
    variables = {atom.variable for atom in atoms if atom is not None} - {None}
    if None in atoms or len(variables) > 1 or any(len(part) > 1 for part in removed):
        return None
    members = Intersection(*(atom.members for atom in kept if atom))
    for part in removed:
        members -= part[0].members if part[0] else members
    return RealSet(members, next(iter(variables), None))


def _read_atom(text: str) -> RealSet | None:
    from sympy import FiniteSet, Interval, S, oo

    text = text.strip()
    if member := _MEMBER.match(text):
        inside = read_set(text[member.end() :])
        return inside and RealSet(inside.members, member[1])
    if text == r"\mathbb{R}":
        return RealSet(Interval(-oo, oo), None)
    if text == r"\emptyset":
        return RealSet(S.EmptySet, None)
    if interval := _INTERVAL.fullmatch(text):
        ends = _number(interval[2]), _number(interval[3])
        if None in ends or not ends[0] < ends[1]:
            return None
        return RealSet(Interval(*ends, left_open=interval[1] == "(", right_open=interval[4] == ")"), None)
    if finite := _FINITE.fullmatch(text):
        members = [_number(member) for member in finite[1].split(",")]
        return None if None in members else RealSet(FiniteSet(*members), None)
    return _read_inequality(text)


def _read_inequality(text: str) -> RealSet | None:
    r"""Read `x < 2`, `-1 \leq x < 2` and `x \neq 3`."""
    from sympy import FiniteSet, Interval, oo

    operands = _RELATION.split(text)
    names = [place for place in range(0, len(operands), 2) if _LETTER.fullmatch(operands[place].strip())]
    if len(operands) not in (3, 5) or len(names) != 1:
        return None
    name = names[0]
    members = Interval(-oo, oo)
    for place in {name - 2, name + 2} & set(range(len(operands))):
        end = _number(operands[place])
        if end is None:
            return None
        relation = operands[name + 1] if place > name else _TURNED[operands[name - 1]]
        if relation == r"\neq":
            members -= FiniteSet(end)
        elif relation in ("<", r"\leq"):
            members &= Interval(-oo, end, right_open=relation == "<")
        else:
            members &= Interval(end, oo, left_open=relation == ">")
    if len(operands) == 5 and name != 2:
        return None
    return RealSet(members, operands[name].strip())


def _number(text: str) -> Any:
    """Return the value of a formula that is a real number or infinity, as a SymPy object; None for other formulas."""
    from sympy import Expr, Rational, oo

    text = text.strip()
    infinite = re.fullmatch(r"([-+]?)\s*\\infty", text)
    if infinite:
        return -oo if infinite[1] == "-" else oo
    exact = number(text)
    if exact is not None:
        return Rational(exact.numerator, exact.denominator)
    value = parse_latex(text) if text else None
    if not isinstance(value, Expr) or value.free_symbols:
        return None
    value = value.doit()
    return value if value.is_real else None
