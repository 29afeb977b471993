"""Compare two statements: their values, one by one or as one list, with their units."""

from __future__ import annotations

import re

from rlcircuits.questions.grading.comparing.formulas import same_formula
from rlcircuits.questions.grading.notation.numerals import number
from rlcircuits.questions.grading.notation.units import conversion_factor, split_unit, unit_exponent
from rlcircuits.questions.grading.reading.statement import Statement
from rlcircuits.questions.grading.reading.values import Value

__all__ = ["same_statement"]

_INEQUALITY = re.compile(r"[<>]|\\(?:leq|geq)(?![A-Za-z])")


def same_statement(answer: Statement, reference: Statement) -> bool:
    """Return True when both statements give the same values, in the same way ("and" or "or").

    Alternatives in the answer, `2 hours or 120 minutes`, agree with a single reference value if each of them does.
    """
    if len(answer.values) == len(reference.values) == 1:
        return _same_value(answer.values[0], reference.values[0])
    if same_formula(_as_formula(answer), _as_formula(reference)):
        exponents, wanted = _exponents(answer), _exponents(reference)
        return not exponents or not wanted or exponents == wanted
    alternatives = answer.link == "or" and len(reference.values) == 1
    return alternatives and all(_same_value(value, reference.values[0]) for value in answer.values)


def _exponents(statement: Statement) -> set[str]:
    """Return the exponents that the units of a statement show: {"2"} for `3 cm^2 and 5 square feet`."""
    found = {unit_exponent(_with_its_unit(value.latex, value.unit)[1]) for value in statement.values}
    return {exponent for exponent in found if exponent is not None}


def _as_formula(statement: Statement) -> str:
    """Write the values of a statement as one formula, without their units."""
    members = [split_unit(value.latex)[0] for value in statement.values]
    inequalities = all(_INEQUALITY.search(member) for member in members)
    separator = r" \text{ or } " if statement.link == "or" else r" \text{ and } " if inequalities else ", "
    return separator.join(members)


def _same_value(answer: Value, reference: Value) -> bool:
    return any(_same_amount(theirs, ours) for theirs in answer.readings for ours in reference.readings)


def _same_amount(answer: tuple[str, str], reference: tuple[str, str]) -> bool:
    """Compare two (amount, unit) pairs.

    Units of one kind are converted: 2 hours are 120 minutes. Of any other units, only the exponents must agree.
    """
    (theirs, their_unit), (ours, our_unit) = (_with_its_unit(*amount) for amount in (answer, reference))
    exponents = unit_exponent(their_unit), unit_exponent(our_unit)
    if their_unit and our_unit and exponents != (None, None) and exponents[0] != exponents[1]:
        return False
    size = conversion_factor(their_unit, our_unit)
    amount, wanted = number(theirs), number(ours)
    if size not in (None, 1) and amount is not None and wanted is not None:
        return amount * (size or 1) == wanted
    return same_formula(theirs, ours)


def _with_its_unit(latex: str, unit: str) -> tuple[str, str]:
    amount, unit_within = split_unit(latex)
    return amount, unit or unit_within
