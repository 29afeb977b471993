"""Two formulas in LaTeX: the same mathematics? math-verify parses and compares; equations are taken apart here.

math-verify solves two equations to compare them, which can take minutes, and calls any two without solutions the
same. Here two equations are the same when their left sides are and their right sides are, or when one is a multiple of
the other. Expressions are first compared at random points, where simplifying their difference may take minutes too.
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

__all__ = ["APPROXIMATELY", "NO_MATH_VERIFY", "parsed", "same_formula"]

NO_MATH_VERIFY = "the grader 'math' needs math-verify, which is not installed; pip install math-verify"
_POINTS = 6
"""Two expressions that agree at so many random points are the same; one that differs at one of them is not."""
_POSITIVE_POINTS = 2
"""Of these, the first, where every symbol is positive: there the roots of textbooks are real."""
_CLOSE = 1e-9
_ZERO = 1e-15
"""What is left of 0 by rounding."""


APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])")


@lru_cache(maxsize=64)
def parsed(latex: str) -> Any:
    """Return what SymPy makes of a formula, None where it cannot read it.

    An equation whose left side alone cannot be read, `P(X=4)=5/8`, is its right side.
    Raises RLCircuitsError where math-verify is not installed.
    """
    try:
        from latex2sympy2_extended import NormalizationConfig
        from math_verify import LatexExtractionConfig, parse
    except ImportError:
        raise RLCircuitsError(NO_MATH_VERIFY) from None
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off
    # Its own removal of units takes variables too: 4-3m would become 4-3.
    config = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    found = parse(
        f"${APPROXIMATELY.sub('=', latex)}$",  # it would leave out what follows the sign
        [LatexExtractionConfig(normalization_config=config)],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return found[0] if found else None


def same_formula(answer: str, gold: str) -> bool:
    """Return True when both formulas can be read and mean the same. The gold one sets the form."""
    theirs, ours = parsed(answer), parsed(gold)
    return theirs is not None and ours is not None and _same(ours, theirs)


def _same(gold: Any, answer: Any) -> bool:
    from sympy import Eq, FiniteSet

    gold, answer = _statement(gold), _statement(answer)
    if isinstance(gold, Eq) and isinstance(answer, Eq):
        return _same_equation(gold, answer)
    if isinstance(gold, FiniteSet) and isinstance(answer, FiniteSet):
        ours, theirs = _as_written(gold), _as_written(answer)
        if len(ours) > len(gold):  # a list in which something occurs twice, like a double root
            return _same_elements(ours, theirs)
        if gold.has(Eq) or answer.has(Eq):
            return _same_elements(gold.args, answer.args)
    same = _same_everywhere(gold, answer)
    return _verified(gold, answer) if same is None else same


def _as_written(collection: Any) -> list[Any]:
    return list(getattr(collection, "_unsorted_args", collection.args))


def _same_elements(gold: Iterable[Any], answer: Iterable[Any]) -> bool:
    left = list(answer)
    for one in gold:
        found = next((place for place, other in enumerate(left) if _same(one, other)), None)
        if found is None:
            return False
        left.pop(found)
    return not left


def _statement(expression: Any) -> Any:
    """Return a chain `a = b = c` as `a = c`, and of a statement about numbers, `log 100 = 2`, the right side.

    As equations all true statements about numbers are the same.
    """
    from latex2sympy2_extended.logic import And
    from sympy import Eq

    if isinstance(expression, And) and all(isinstance(part, Eq) for part in expression._unsorted_args):
        parts = expression._unsorted_args
        expression = Eq(parts[0].lhs, parts[-1].rhs, evaluate=False)
    return expression.rhs if isinstance(expression, Eq) and not expression.free_symbols else expression


def _same_equation(gold: Any, answer: Any) -> bool:
    from sympy import Expr, simplify

    if _same(gold.lhs, answer.lhs):
        return _same(gold.rhs, answer.rhs)
    if gold.lhs.is_Symbol and answer.lhs.is_Symbol:
        return False
    if not all(isinstance(side, Expr) for side in (gold.lhs, gold.rhs, answer.lhs, answer.rhs)):
        return False
    ours, theirs = gold.lhs - gold.rhs, answer.lhs - answer.rhs
    if ours.free_symbols != theirs.free_symbols:
        return False
    one, other = (_at_random(ours, point) / (_at_random(theirs, point) or math.nan) for point in range(2))
    if not (math.isnan(one) or math.isnan(other) or math.isclose(one, other, rel_tol=_CLOSE)):
        return False
    ratio = simplify(ours / theirs)
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def _same_everywhere(gold: Any, answer: Any) -> bool | None:
    """Compare exact numbers exactly and expressions with symbols at random points; None where that does not decide."""
    from sympy import Expr, Sum

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return None
    if isinstance(gold, Sum) and isinstance(answer, Sum) and gold.limits == answer.limits:
        return _same(gold.function, answer.function)
    if not gold.free_symbols | answer.free_symbols:
        ours, theirs = gold.doit(), answer.doit()
        return bool(ours == theirs) if ours.is_Rational and theirs.is_Rational else None
    real = 0
    for point in range(_POINTS):
        ours, theirs = _at_random(gold, point), _at_random(answer, point)
        if not (math.isnan(ours) or math.isnan(theirs)):
            if math.isclose(ours, theirs, rel_tol=_CLOSE, abs_tol=_ZERO):
                real += 1
            elif point < _POSITIVE_POINTS:
                return False
    return True if real == _POINTS else None


def _at_random(expression: Any, point: int) -> float:
    """Return the value with every symbol set to a number that its name and the point fix; nan unless it is real."""
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


def _verified(gold: Any, answer: Any) -> bool:
    from math_verify import verify

    return bool(verify(gold, answer, float_rounding=_places(gold), allow_set_relation_comp=True, timeout_seconds=None))


def _places(expression: Any) -> int:
    """Return how many decimals make six significant ones."""
    try:
        size = abs(float(expression))
    except (TypeError, ValueError, OverflowError):
        return 6
    return 6 if size == 0 or not math.isfinite(size) else max(6, 6 - math.floor(math.log10(size)))
