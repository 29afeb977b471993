"""Compare two formulas with SymPy and math-verify.

math-verify parses both formulas. It also compares them, except where it would be slow or wrong:

- Equations. math-verify solves both, which can take minutes, and treats any two equations without solutions as the
  same. Here two equations are the same if both of their sides are, or if one equation is a multiple of the other.
- Expressions. math-verify simplifies their difference, which can take minutes. Here they are evaluated at random
  points first, and math-verify decides only where the points do not.
"""

from __future__ import annotations

import logging
import math
import random
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rlcircuits.common.errors import RLCircuitsError

__all__ = ["APPROXIMATELY", "NO_MATH_VERIFY", "parse_latex", "same_expression"]

NO_MATH_VERIFY = "the grader 'math' needs math-verify, which is not installed; pip install math-verify"
_POINTS = 6
"""Number of random points. Expressions that agree at all of them are the same."""
_POSITIVE_POINTS = 2
"""Number of points, the first ones, at which every symbol is positive, so that roots such as `\\sqrt{x}` are real.

Expressions that differ at one of these points are not the same.
"""
_CLOSE = 1e-9
_ZERO = 1e-15
"""Largest absolute difference from 0 that counts as a rounding error."""

APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])")


@lru_cache(maxsize=64)
def parse_latex(latex: str) -> Any:
    """Parse a formula into a SymPy object; return None if it cannot be parsed.

    If only the left side of an equation cannot be parsed, as in `P(X=4)=5/8`, the result is the right side.

    Raises:
        RLCircuitsError: math-verify is not installed.
    """
    try:
        from latex2sympy2_extended import NormalizationConfig
        from math_verify import LatexExtractionConfig, parse
    except ImportError:
        raise RLCircuitsError(NO_MATH_VERIFY) from None
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are switched off
    # math-verify's removal of units also removes variables: 4-3m would become 4-3.
    config = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    found = parse(
        f"${APPROXIMATELY.sub('=', latex)}$",  # math-verify would drop what follows the sign
        [LatexExtractionConfig(normalization_config=config)],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return found[0] if found else None


def same_expression(answer: str, reference: str) -> bool:
    """Return True if both formulas can be parsed and are the same mathematics."""
    theirs, ours = parse_latex(answer), parse_latex(reference)
    return theirs is not None and ours is not None and _same(ours, theirs)


def _same(reference: Any, answer: Any) -> bool:
    from sympy import Eq, FiniteSet

    reference, answer = _statement(reference), _statement(answer)
    if isinstance(reference, Eq) and isinstance(answer, Eq):
        return _same_equation(reference, answer)
    if isinstance(reference, FiniteSet) and isinstance(answer, FiniteSet):
        ours, theirs = _as_written(reference), _as_written(answer)
        if len(ours) > len(reference):  # a list with a repeated member, such as a double root
            return _same_elements(ours, theirs)
        if reference.has(Eq) or answer.has(Eq):
            return _same_elements(reference.args, answer.args)
    same = _same_everywhere(reference, answer)
    return _verified(reference, answer) if same is None else same


def _as_written(collection: Any) -> list[Any]:
    return list(getattr(collection, "_unsorted_args", collection.args))


def _same_elements(reference: Iterable[Any], answer: Iterable[Any]) -> bool:
    left = list(answer)
    for one in reference:
        found = next((place for place, other in enumerate(left) if _same(one, other)), None)
        if found is None:
            return False
        left.pop(found)
    return not left


def _statement(expression: Any) -> Any:
    """Return `a = c` for a chain `a = b = c`, and the right side for an equation without variables, `log 100 = 2`.

    Without that, any two true equations without variables would be the same.
    """
    from latex2sympy2_extended.logic import And
    from sympy import Eq

    if isinstance(expression, And) and all(isinstance(part, Eq) for part in expression._unsorted_args):
        parts = expression._unsorted_args
        expression = Eq(parts[0].lhs, parts[-1].rhs, evaluate=False)
    return expression.rhs if isinstance(expression, Eq) and not expression.free_symbols else expression


def _same_equation(reference: Any, answer: Any) -> bool:
    from sympy import Expr, simplify

    if _same(reference.lhs, answer.lhs):
        return _same(reference.rhs, answer.rhs)
    if reference.lhs.is_Symbol and answer.lhs.is_Symbol:
        return False
    if not all(isinstance(side, Expr) for side in (reference.lhs, reference.rhs, answer.lhs, answer.rhs)):
        return False
    ours, theirs = reference.lhs - reference.rhs, answer.lhs - answer.rhs
    if ours.free_symbols != theirs.free_symbols:
        return False
    one, other = (_at_random(ours, point) / (_at_random(theirs, point) or math.nan) for point in range(2))
    if not (math.isnan(one) or math.isnan(other) or math.isclose(one, other, rel_tol=_CLOSE)):
        return False
    ratio = simplify(ours / theirs)
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def _same_everywhere(reference: Any, answer: Any) -> bool | None:
    """Compare rationals exactly and expressions with symbols at random points; return None if that does not decide."""
    from sympy import Expr, Sum

    if not (isinstance(reference, Expr) and isinstance(answer, Expr)):
        return None
    if isinstance(reference, Sum) and isinstance(answer, Sum) and reference.limits == answer.limits:
        return _same(reference.function, answer.function)
    if not reference.free_symbols | answer.free_symbols:
        ours, theirs = reference.doit(), answer.doit()
        return bool(ours == theirs) if ours.is_Rational and theirs.is_Rational else None
    real = 0
    for point in range(_POINTS):
        ours, theirs = _at_random(reference, point), _at_random(answer, point)
        if not (math.isnan(ours) or math.isnan(theirs)):
            if math.isclose(ours, theirs, rel_tol=_CLOSE, abs_tol=_ZERO):
                real += 1
            elif point < _POSITIVE_POINTS:
                return False
    return True if real == _POINTS else None


def _at_random(expression: Any, point: int) -> float:
    """Evaluate an expression at the random point of this number; return nan unless the value is real and finite.

    The number that a symbol stands for depends on its name and the point alone, so that both expressions get the same.
    """
    from sympy import Rational

    values = {}
    for symbol in expression.free_symbols:
        rng = random.Random(f"{point} {symbol}")
        sign = 1 if point < _POSITIVE_POINTS else rng.choice((-1, 1))
        values[symbol] = Rational(sign * rng.randint(300, 1700), 1000)
    try:
        value = complex(expression.subs(values).evalf(20))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return math.nan
    return value.real if value.imag == 0 and math.isfinite(value.real) else math.nan


def _verified(reference: Any, answer: Any) -> bool:
    from math_verify import verify

    return bool(
        verify(reference, answer, float_rounding=_places(reference), allow_set_relation_comp=True, timeout_seconds=None)
    )


def _places(expression: Any) -> int:
    """Return the number of decimal places that show at least six significant digits of a number."""
    try:
        size = abs(float(expression))
    except (TypeError, ValueError, OverflowError):
        return 6
    return 6 if size == 0 or not math.isfinite(size) else max(6, 6 - math.floor(math.log10(size)))
